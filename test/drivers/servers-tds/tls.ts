import { readFileSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { createSecureContext, TLSSocket } from 'node:tls';
import { FIRST_PACKET_BYTES, HEADER_BYTES, PacketType, toPackets } from './packets.ts';

/** ALPN of TDS 8.0, whose TLS comes before everything else. */
const STRICT_PROTOCOL = 'tds/8.0';
/** The record type of TLS that carries what the layer above says. */
const APPLICATION_DATA = 0x17;

export interface ServerTls {
  readonly stream: TLSSocket;
  /** Bytes that the client sent. */
  readonly receive: (chunk: Buffer) => void;
}

/**
 * TLS as a server, over bytes that are handed in and out.
 *
 * @param isInPackets its handshake is in packets of type PRELOGIN, as in TDS 7.x, where there is no TLS 1.3; what
 *   follows is not
 */
export const serverTls = (
  files: { readonly certFile: string; readonly keyFile: string },
  isInPackets: boolean,
  send: (bytes: Buffer, sent: (error?: Error | null) => void) => void,
): ServerTls => {
  let isSendingPackets = isInPackets;
  let isReceivingPackets = isInPackets;
  let held: Buffer = Buffer.alloc(0);
  const sendTls = (bytes: Buffer, sent: (error?: Error | null) => void): void => {
    if (bytes[0] === APPLICATION_DATA) isSendingPackets = false;
    send(isSendingPackets ? toPackets(PacketType.prelogin, bytes, FIRST_PACKET_BYTES, true) : bytes, sent);
  };
  const carrier = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, sent) => sendTls(chunk, sent),
    // A flight of the handshake is one message: clients read one for each that they send.
    writev: (chunks, sent) => sendTls(Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer)), sent),
  });
  const stream = new TLSSocket(carrier, {
    isServer: true,
    secureContext: createSecureContext({
      cert: readFileSync(files.certFile),
      key: readFileSync(files.keyFile),
      minVersion: 'TLSv1.2',
      maxVersion: isInPackets ? 'TLSv1.2' : 'TLSv1.3',
    }),
    ...(isInPackets ? {} : { ALPNProtocols: [STRICT_PROTOCOL] }),
  });
  return {
    stream,
    receive: (chunk) => {
      held = Buffer.concat([held, chunk]);
      while (isReceivingPackets && held.length >= HEADER_BYTES) {
        if (held[0] === PacketType.prelogin) {
          const length = Math.max(held.readUInt16BE(2), HEADER_BYTES);
          if (held.length < length) return;
          carrier.push(held.subarray(HEADER_BYTES, length));
          held = held.subarray(length);
        } else {
          isReceivingPackets = false;
        }
      }
      if (isReceivingPackets) return;
      carrier.push(held);
      held = Buffer.alloc(0);
    },
  };
};
