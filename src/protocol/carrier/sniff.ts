import { readClientHello } from './client-hello.ts';
import { MAX_PREAMBLE_BYTES, parsePreamble, PROBE_PROTOCOL, tokenOfProtocol } from './preamble.ts';

/** How long a connection may take to show what it is. */
export const SNIFF_TIMEOUT_MS = 5_000;

const LF = 0x0a;
const FIRST_PREAMBLE_BYTE = 'S'.charCodeAt(0);
const FIRST_TLS_BYTE = 22;

/** What a new connection to the public port turned out to be. */
export type Sniffed =
  | { readonly kind: 'more' }
  /** A gateway's data carrier; the first `consumedBytes` are the preamble and are not forwarded. */
  | { readonly kind: 'gateway'; readonly token: string; readonly consumedBytes: number }
  /** An agent's data carrier; its ClientHello is the first thing to forward. */
  | { readonly kind: 'agent'; readonly token: string }
  | { readonly kind: 'probe'; readonly consumedBytes: number }
  | { readonly kind: 'https' }
  | { readonly kind: 'invalid'; readonly detail: string };

const sniffPreamble = (bytes: Buffer): Sniffed => {
  const end = bytes.subarray(0, MAX_PREAMBLE_BYTES).indexOf(LF);
  if (end === -1) {
    return bytes.length >= MAX_PREAMBLE_BYTES
      ? { kind: 'invalid', detail: `preamble is longer than ${MAX_PREAMBLE_BYTES} bytes` }
      : { kind: 'more' };
  }
  const preamble = parsePreamble(bytes.toString('latin1', 0, end));
  if (preamble === undefined) return { kind: 'invalid', detail: 'malformed preamble' };
  const consumedBytes = end + 1;
  return preamble.kind === 'probe'
    ? { kind: 'probe', consumedBytes }
    : { kind: 'gateway', token: preamble.token, consumedBytes };
};

const sniffTls = (bytes: Buffer): Sniffed => {
  const reading = readClientHello(bytes);
  if (reading.kind !== 'hello') return reading;
  if (reading.firstProtocol === undefined) return { kind: 'https' };
  if (reading.firstProtocol === PROBE_PROTOCOL) return { kind: 'probe', consumedBytes: 0 };
  const token = tokenOfProtocol(reading.firstProtocol);
  return token === undefined ? { kind: 'https' } : { kind: 'agent', token };
};

/** Tells a data carrier, a probe and the relay's own HTTPS apart by their first bytes. */
export const sniff = (bytes: Buffer): Sniffed => {
  switch (bytes[0]) {
    case undefined:
      return { kind: 'more' };
    case FIRST_PREAMBLE_BYTE:
      return sniffPreamble(bytes);
    case FIRST_TLS_BYTE:
      return sniffTls(bytes);
    default:
      return { kind: 'invalid', detail: `first byte ${bytes[0]} is neither TLS nor a preamble` };
  }
};
