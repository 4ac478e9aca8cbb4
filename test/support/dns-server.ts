import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { parseAddress } from '../../src/runtime/index.ts';
import type { Closer } from './temporary.ts';

const TYPE = { A: 1, AAAA: 28 } as const;
const HEADER_BYTES = 12;
const NXDOMAIN = 3;

/** A DNS server (RFC 1035) on UDP that knows what it is given. */
export interface DnsServer {
  /** `ADDRESS:PORT` */
  readonly server: string;
  /** `TYPE NAME` of every question so far. */
  readonly asked: string[];
  /** Addresses by name in lower case; any other name does not exist. */
  readonly records: Map<string, readonly string[]>;
}

const questionOf = (packet: Buffer): { name: string; type: number; end: number } => {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let length = packet[at] ?? 0; length > 0; length = packet[at] ?? 0) {
    labels.push(packet.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), type: packet.readUInt16BE(at + 1), end: at + 5 };
};

const answerOf = (address: readonly number[]): Buffer => {
  const type = address.length === 4 ? TYPE.A : TYPE.AAAA;
  // The name of the question, class IN, 1 s.
  return Buffer.from([0xc0, HEADER_BYTES, 0, type, 0, 1, 0, 0, 0, 1, 0, address.length, ...address]);
};

/** Starts a server on loopback. @param port 0 for any free one */
export const startDns = async (
  t: Closer,
  records: Readonly<Record<string, readonly string[]>>,
  port = 0,
): Promise<DnsServer> => {
  const socket = createSocket('udp4');
  const known = new Map(Object.entries(records));
  const asked: string[] = [];
  socket.on('message', (packet, from) => {
    const { name, type, end } = questionOf(packet);
    asked.push(`${type === TYPE.A ? 'A' : type === TYPE.AAAA ? 'AAAA' : type} ${name}`);
    const addresses = known.get(name);
    const bytes = (addresses ?? [])
      .map((address) => parseAddress(address) ?? [])
      .filter((address) => address.length === (type === TYPE.A ? 4 : 16));
    const header = Buffer.alloc(HEADER_BYTES);
    packet.copy(header, 0, 0, 2);
    // Response, recursion desired and available.
    header.writeUInt16BE(0x8180 | (addresses === undefined ? NXDOMAIN : 0), 2);
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(bytes.length, 6);
    socket.send(
      Buffer.concat([header, packet.subarray(HEADER_BYTES, end), ...bytes.map(answerOf)]),
      from.port,
      from.address,
    );
  });
  socket.bind(port, '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => new Promise<void>((resolve) => socket.close(() => resolve())));
  return { server: `127.0.0.1:${socket.address().port}`, asked, records: known };
};
