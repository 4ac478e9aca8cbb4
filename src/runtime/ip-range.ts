import { addressText, isMapped, parseAddress, unmapped } from './ip-address.ts';

/** A range of addresses: the 4 or 16 bytes of its first one, and how many bits all of them share. */
export interface IpRange {
  readonly bytes: readonly number[];
  readonly prefixBits: number;
}

const BITS_OF_BYTE = 8;
const MAPPED_BITS = 96;
const FORM = /^([^/]+)(?:\/(\d{1,3}))?$/;
/** What of a malformed entry is shown, UTF-16 code units. */
const SHOWN_LENGTH = 64;

const hasSamePrefix = (left: readonly number[], right: readonly number[], prefixBits: number): boolean => {
  if (left.length !== right.length) return false;
  const whole = Math.floor(prefixBits / BITS_OF_BYTE);
  for (let at = 0; at < whole; at += 1) if (left[at] !== right[at]) return false;
  const restBits = prefixBits % BITS_OF_BYTE;
  const mask = (0xff << (BITS_OF_BYTE - restBits)) & 0xff;
  return restBits === 0 || ((left[whole] ?? 0) & mask) === ((right[whole] ?? 0) & mask);
};

const firstOf = ({ bytes, prefixBits }: IpRange): readonly number[] =>
  bytes.map((byte, at) => {
    const bits = Math.max(0, Math.min(BITS_OF_BYTE, prefixBits - at * BITS_OF_BYTE));
    return byte & ((0xff << (BITS_OF_BYTE - bits)) & 0xff);
  });

/** Canonical text: an address alone, or `ADDRESS/PREFIX`. */
export const rangeText = ({ bytes, prefixBits }: IpRange): string =>
  prefixBits === bytes.length * BITS_OF_BYTE ? addressText(bytes) : `${addressText(bytes)}/${prefixBits}`;

/**
 * The range that `ADDRESS` or `ADDRESS/PREFIX` names, IPv4-mapped ones as IPv4; or a sentence that says what is wrong
 * with the text. Bits behind the prefix are wrong: whoever wrote them meant another range.
 */
export const parseRange = (text: string): IpRange | string => {
  const [, address = '', prefix] = FORM.exec(text) ?? [];
  const written = parseAddress(address);
  const shown = JSON.stringify(text.slice(0, SHOWN_LENGTH));
  if (written === undefined)
    return `${shown} is neither an address nor ADDRESS/PREFIX, like 10.1.0.0/16 or fd00::7`;
  const allBits = written.length * BITS_OF_BYTE;
  const givenBits = prefix === undefined ? allBits : Number(prefix);
  if (givenBits > allBits) return `prefix /${givenBits} of ${shown} is longer than ${allBits}`;
  const isIpv4 = isMapped(written) && givenBits >= MAPPED_BITS;
  const range: IpRange = isIpv4
    ? { bytes: written.slice(MAPPED_BITS / BITS_OF_BYTE), prefixBits: givenBits - MAPPED_BITS }
    : { bytes: written, prefixBits: givenBits };
  const first = firstOf(range);
  if (!hasSamePrefix(first, range.bytes, range.bytes.length * BITS_OF_BYTE))
    return `${shown} has bits behind its prefix; the range is ${rangeText({ ...range, bytes: first })}`;
  return range;
};

/** Whether an address, as `parseAddress` reads its canonical text, is in the range. */
export const isInRange = (range: IpRange, bytes: readonly number[]): boolean =>
  hasSamePrefix(range.bytes, bytes, range.prefixBits);

/** The addresses of loopback (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3). */
export const LOOPBACK_RANGES: readonly string[] = ['127.0.0.0/8', '::1'];

const loopback = LOOPBACK_RANGES.map(parseRange).filter((range) => typeof range !== 'string');

/** Whether a host, without brackets, is an address of loopback, or `localhost`. */
export const isLoopbackHost = (host: string): boolean => {
  const bytes = parseAddress(host);
  if (bytes === undefined) return host === 'localhost';
  const plain = unmapped(bytes);
  return loopback.some((range) => isInRange(range, plain));
};
