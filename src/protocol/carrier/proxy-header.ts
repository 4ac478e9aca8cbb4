import { addressText, canonicalAddress, unmapped } from '../../runtime/index.ts';

/** The longest version 2 header taken, TLVs included; the length field alone could say 65,551. */
export const MAX_PROXY_HEADER_BYTES = 4 * 1024;
/** The longest version 1 line, CRLF included (PROXY protocol specification §2.1). */
export const MAX_PROXY_LINE_BYTES = 107;

const V1_START = Buffer.from('PROXY ', 'latin1');
const V2_SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
/** Signature, version and command, family and transport, length. */
const V2_FIXED_BYTES = 16;

const LOCAL = 0x20;
const PROXY = 0x21;
/** Bytes of one address, and of the whole address block, by family and transport; streams only. */
const FAMILIES: ReadonlyMap<number, { readonly addressBytes: number; readonly blockBytes: number }> = new Map(
  [
    [0x00, { addressBytes: 0, blockBytes: 0 }],
    [0x11, { addressBytes: 4, blockBytes: 12 }],
    [0x21, { addressBytes: 16, blockBytes: 36 }],
    [0x31, { addressBytes: 0, blockBytes: 216 }],
  ],
);

/** What the first bytes of a connection say as a PROXY protocol header, version 1 or 2. */
export type ProxyHeaderReading =
  | { readonly kind: 'more' }
  /** These bytes begin no header. */
  | { readonly kind: 'none' }
  | {
      readonly kind: 'header';
      readonly version: 1 | 2;
      /** What comes behind them is the client's. */
      readonly consumedBytes: number;
      /** In canonical form; undefined when the proxy speaks for itself (LOCAL) or does not know it. */
      readonly source: string | undefined;
    }
  | { readonly kind: 'invalid'; readonly detail: string };

const invalid = (detail: string): ProxyHeaderReading => ({ kind: 'invalid', detail });

const startsLike = (bytes: Buffer, start: Buffer): boolean => {
  const compared = Math.min(bytes.length, start.length);
  return bytes.subarray(0, compared).equals(start.subarray(0, compared));
};

const LINE = /^PROXY (TCP4|TCP6) (\S+) (\S+) (\d{1,5}) (\d{1,5})$/;
const UNKNOWN_LINE = /^PROXY UNKNOWN(?: |$)/;
const MAX_PORT = 65_535;

const readLine = (bytes: Buffer): ProxyHeaderReading => {
  const end = bytes.subarray(0, MAX_PROXY_LINE_BYTES).indexOf('\r\n');
  if (end === -1) {
    return bytes.length >= MAX_PROXY_LINE_BYTES
      ? invalid(`version 1 line is longer than ${MAX_PROXY_LINE_BYTES} bytes`)
      : { kind: 'more' };
  }
  const line = bytes.toString('latin1', 0, end);
  const header = { kind: 'header', version: 1, consumedBytes: end + 2 } as const;
  if (UNKNOWN_LINE.test(line)) return { ...header, source: undefined };
  const [, family, from = '', to = '', fromPort, toPort] = LINE.exec(line) ?? [];
  if (family === undefined || Number(fromPort) > MAX_PORT || Number(toPort) > MAX_PORT)
    return invalid('malformed version 1 line');
  const isFamily = (text: string): boolean => text.includes(':') === (family === 'TCP6');
  const [source, destination] = [from, to].map(canonicalAddress);
  if (source === undefined || destination === undefined || ![from, to].every(isFamily))
    return invalid(`version 1 line without two addresses of ${family}`);
  return { ...header, source };
};

const readBinary = (bytes: Buffer): ProxyHeaderReading => {
  if (bytes.length < V2_FIXED_BYTES) return { kind: 'more' };
  const command = bytes.readUInt8(12);
  const transport = bytes.readUInt8(13);
  const restBytes = bytes.readUInt16BE(14);
  const consumedBytes = V2_FIXED_BYTES + restBytes;
  if (command !== LOCAL && command !== PROXY)
    return invalid(`version and command 0x${command.toString(16)} are not of version 2`);
  if (consumedBytes > MAX_PROXY_HEADER_BYTES)
    return invalid(`version 2 header of ${consumedBytes} bytes is longer than ${MAX_PROXY_HEADER_BYTES}`);
  const family = FAMILIES.get(transport);
  if (command === PROXY) {
    if (family === undefined)
      return invalid(`family and transport 0x${transport.toString(16)} are no stream`);
    if (restBytes < family.blockBytes)
      return invalid(`${restBytes} bytes of addresses, the family has ${family.blockBytes}`);
  }
  if (bytes.length < consumedBytes) return { kind: 'more' };
  const addressBytes = command === PROXY ? (family?.addressBytes ?? 0) : 0;
  const source =
    addressBytes === 0
      ? undefined
      : addressText(unmapped([...bytes.subarray(V2_FIXED_BYTES, V2_FIXED_BYTES + addressBytes)]));
  return { kind: 'header', version: 2, consumedBytes, source };
};

/**
 * Reads a PROXY protocol header (versions 1 and 2, haproxy.org/download/2.9/doc/proxy-protocol.txt) from the first
 * bytes of a connection. TLVs are skipped. Whether its sender may say so is not asked here.
 *
 * @param bytes everything received so far, at least one byte; not kept
 */
export const readProxyHeader = (bytes: Buffer): ProxyHeaderReading => {
  if (startsLike(bytes, V2_SIGNATURE))
    return bytes.length < V2_SIGNATURE.length ? { kind: 'more' } : readBinary(bytes);
  if (startsLike(bytes, V1_START)) return bytes.length < V1_START.length ? { kind: 'more' } : readLine(bytes);
  return { kind: 'none' };
};
