import { isIPv4, isIPv6 } from 'node:net';
import { withoutZone } from './text.ts';

const IPV4_BYTES = 4;
const IPV6_BYTES = 16;
const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

const bytesOfIpv4 = (text: string): number[] => text.split('.').map(Number);

const groupBytes = (part: string): number[] =>
  part === ''
    ? []
    : part.split(':').flatMap((group) => {
        if (group.includes('.')) return bytesOfIpv4(group);
        const value = Number.parseInt(group, 16);
        return [value >> 8, value & 0xff];
      });

const bytesOfIpv6 = (text: string): number[] => {
  const gap = text.indexOf('::');
  if (gap === -1) return groupBytes(text);
  const head = groupBytes(text.slice(0, gap));
  const tail = groupBytes(text.slice(gap + 2));
  return [...head, ...new Array<number>(IPV6_BYTES - head.length - tail.length).fill(0), ...tail];
};

/** The 4 or 16 bytes of an address without zone id; undefined when it is none. */
export const parseAddress = (text: string): readonly number[] | undefined => {
  if (isIPv4(text)) return bytesOfIpv4(text);
  return isIPv6(text) && !text.includes('%') ? bytesOfIpv6(text) : undefined;
};

/** True for the IPv4-mapped form `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2). */
export const isMapped = (bytes: readonly number[]): boolean =>
  bytes.length === IPV6_BYTES && MAPPED_PREFIX.every((byte, index) => bytes[index] === byte);

/** The 4 bytes of an IPv4-mapped address, all bytes of any other. */
export const unmapped = (bytes: readonly number[]): readonly number[] =>
  isMapped(bytes) ? bytes.slice(MAPPED_PREFIX.length) : bytes;

const longestZeroRun = (groups: readonly number[]): { at: number; length: number } => {
  let best = { at: -1, length: 1 };
  for (let at = 0; at < groups.length; at += 1) {
    let length = 0;
    while (groups[at + length] === 0) length += 1;
    if (length > best.length) best = { at, length };
  }
  return best;
};

/** The one text form of an address (RFC 5952 for IPv6, without embedded dotted quads). */
export const addressText = (bytes: readonly number[]): string => {
  if (bytes.length === IPV4_BYTES) return bytes.join('.');
  const groups: number[] = [];
  for (let at = 0; at < IPV6_BYTES; at += 2) groups.push(((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0));
  const text = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  const run = longestZeroRun(groups);
  if (run.at === -1) return text(groups);
  return `${text(groups.slice(0, run.at))}::${text(groups.slice(run.at + run.length))}`;
};

/**
 * The one form in which the whole program compares and shows an address: zone id stripped, IPv4-mapped turned into
 * IPv4, IPv6 in RFC 5952 form; undefined when it is none.
 */
export const canonicalAddress = (text: string): string | undefined => {
  const bytes = parseAddress(withoutZone(text));
  return bytes === undefined ? undefined : addressText(unmapped(bytes));
};
