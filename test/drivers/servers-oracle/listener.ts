import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import type { Closer } from '../../support/temporary.ts';
import type { Account } from './logon.ts';
import {
  ACCEPT,
  CONNECT,
  DATA,
  DATA_FLAGS_BYTES,
  HEADER_BYTES,
  PacketStream,
  REDIRECT,
  REFUSE,
  SDU_BYTES,
} from './packets.ts';
import { serveSession } from './session.ts';

const TNS_VERSION = 317;
const ACCEPT_BYTES = 45;
const MAX_TDU_BYTES = 0xffff;
/** No native network encryption. */
const NO_NATIVE_SERVICES = 0x04;
/** In a REDIRECT after the address: what to send there. */
const WITH_CONNECT_DATA = 0x02;
/** A listener does not know the service. */
const UNKNOWN_SERVICE = 12_514;

export interface OracleOptions {
  readonly address: string;
  readonly port: number;
  /** TCPS then: TLS from the first byte. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
  readonly account: Account;
  /** That it has sessions for. */
  readonly services: readonly string[];
  /** Where it sends the clients of other services. */
  readonly elsewhere?: Readonly<Record<string, { readonly host: string; readonly port: number }>>;
}

/** In CONNECT, or in a DATA packet after it when it is longer than 230 bytes. */
const readConnectData = async (stream: PacketStream): Promise<string> => {
  const packet = await stream.read();
  if (packet?.type !== CONNECT) throw new Error(`a packet of type ${packet?.type} first`);
  const bytes = packet.body.readUInt16BE(16);
  const start = packet.body.readUInt16BE(18) - HEADER_BYTES;
  const inside = packet.body.subarray(start, start + bytes);
  if (inside.length === bytes) return inside.toString('utf8');
  const more = await stream.read();
  if (more?.type !== DATA) throw new Error(`a packet of type ${more?.type} after CONNECT`);
  return more.body.subarray(DATA_FLAGS_BYTES).toString('utf8');
};

/** Counted from the packet's beginning, as all offsets are. */
const accept = (): Buffer => {
  const packet = Buffer.alloc(ACCEPT_BYTES);
  packet.writeUInt16BE(TNS_VERSION, 8);
  packet.writeUInt16BE(1, 10);
  packet.writeUInt16BE(SDU_BYTES, 12);
  packet.writeUInt16BE(MAX_TDU_BYTES, 14);
  packet.writeUInt16BE(1, 16);
  packet.writeUInt16BE(ACCEPT_BYTES, 20);
  packet.writeUInt8(NO_NATIVE_SERVICES, 22);
  packet.writeUInt8(NO_NATIVE_SERVICES, 23);
  packet.writeUInt32BE(SDU_BYTES, 32);
  packet.writeUInt32BE(MAX_TDU_BYTES, 36);
  return packet.subarray(HEADER_BYTES);
};

const withLength = (head: readonly number[], text: string): Buffer => {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(Buffer.byteLength(text));
  return Buffer.concat([Buffer.from(head), length, Buffer.from(text)]);
};

const refuse = (code: number): Buffer =>
  withLength([0, 0], `(DESCRIPTION=(TMP=)(ERR=${code})(ERROR_STACK=(ERROR=(CODE=${code})(EMFI=4))))`);

const redirect = (host: string, port: number, connectData: string): Buffer =>
  withLength([], `(ADDRESS=(PROTOCOL=TCP)(HOST=${host})(PORT=${port}))\0${connectData}`);

/**
 * A scripted listener with its database: CONNECT is answered by ACCEPT, by REDIRECT, or by REFUSE with ORA-12514; an accepted
 * driver negotiates protocol and data types, logs on with O5LOGON (a verifier of 12c, so that both sides prove the password)
 * and runs the statements of ./statements. Not here: native network encryption, values to bind, cancelling.
 */
export const startOracle = async (t: Closer, options: OracleOptions): Promise<void> => {
  let sessions = 0;
  const serve = async (stream: PacketStream): Promise<void> => {
    const connectData = await readConnectData(stream);
    const service = /\(SERVICE_NAME=([^)]*)\)/.exec(connectData)?.[1] ?? '';
    const other = options.elsewhere?.[service];
    if (options.services.includes(service)) {
      stream.write(ACCEPT, accept());
      stream.largeLengths = true;
      sessions += 1;
      await serveSession(stream, options.account, sessions);
    } else if (other !== undefined)
      stream.write(REDIRECT, redirect(other.host, other.port, connectData), WITH_CONNECT_DATA);
    else stream.write(REFUSE, refuse(UNKNOWN_SERVICE));
  };

  const welcome = (socket: Socket): void => {
    socket.on('error', () => undefined);
    const stream = new PacketStream(socket);
    serve(stream).then(
      () => stream.end(),
      (error: unknown) => {
        console.error(`scripted Oracle: ${String(error)}`);
        socket.destroy();
      },
    );
  };
  const { tls } = options;
  const server =
    tls === undefined
      ? createServer(welcome)
      : createTlsServer({ cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile) }, welcome);
  server.listen(options.port, options.address);
  await once(server, 'listening');
  t.after(() => server.close());
};
