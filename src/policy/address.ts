import { isIPv4, isIPv6 } from 'node:net';
import { AppError, withoutZone } from '../runtime/index.ts';
import type { PolicyErrorCode } from './errors.ts';

/** Most candidate addresses of one decision; further ones of the resolver are not considered. */
export const MAX_CANDIDATES = 8;

const IPV4_BYTES = 4;
const IPV6_BYTES = 16;
const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

const invalid = (text: string): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_ADDRESS', `'${text.slice(0, 64)}' is not an ip address`);

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

/**
 * The 4 or 16 bytes of an address without zone id.
 * @throws AppError ERR_POLICY_ADDRESS when it is none
 */
export const addressBytes = (text: string): readonly number[] => {
  if (isIPv4(text)) return bytesOfIpv4(text);
  if (isIPv6(text) && !text.includes('%')) return bytesOfIpv6(text);
  throw invalid(text);
};

/** True for the IPv4-mapped form `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2). */
export const isMapped = (bytes: readonly number[]): boolean =>
  bytes.length === IPV6_BYTES && MAPPED_PREFIX.every((byte, index) => bytes[index] === byte);

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
 * The form in which policy, guard, audit and dialler all see an address: zone id stripped, IPv4-mapped
 * turned into IPv4, IPv6 in RFC 5952 form.
 * @throws AppError ERR_POLICY_ADDRESS when it is no address
 */
export const normalizeAddress = (text: string): string => {
  const bytes = addressBytes(withoutZone(text));
  return addressText(isMapped(bytes) ? bytes.slice(MAPPED_PREFIX.length) : bytes);
};

/** Normalised, without repetition, in resolver order, at most MAX_CANDIDATES. */
export const normalizeCandidates = (addresses: readonly string[]): string[] =>
  [...new Set(addresses.map(normalizeAddress))].slice(0, MAX_CANDIDATES);

const parsedNetwork = (text: string): { bytes: readonly number[]; bits: number } | undefined => {
  const [address = '', bits = '', ...rest] = text.split('/');
  if (rest.length > 0 || !/^\d{1,3}$/.test(bits)) return undefined;
  try {
    const bytes = addressBytes(address);
    return Number(bits) <= bytes.length * 8 ? { bytes, bits: Number(bits) } : undefined;
  } catch {
    return undefined;
  }
};

/** An address and its prefix length, as `203.0.113.0/24`. */
export const isNetwork = (text: string): boolean => parsedNetwork(text) !== undefined;

/** A network or an address in the IPv4-mapped range, however it is written; two engines judge such ones differently. */
export const isMappedNetwork = (text: string): boolean => {
  if (text.toLowerCase().includes('::ffff:')) return true;
  try {
    return isMapped(parsedNetwork(text)?.bytes ?? addressBytes(text));
  } catch {
    return false;
  }
};
