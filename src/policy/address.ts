import { AppError, canonicalAddress, isMapped, parseAddress, withoutZone } from '../runtime/index.ts';
import type { PolicyErrorCode } from './errors.ts';

/** Most candidate addresses of one decision; further ones of the resolver are not considered. */
export const MAX_CANDIDATES = 8;

const invalid = (text: string): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_ADDRESS', `'${text.slice(0, 64)}' is not an ip address`);

/**
 * The 4 or 16 bytes of an address without zone id.
 * @throws AppError ERR_POLICY_ADDRESS when it is none
 */
export const addressBytes = (text: string): readonly number[] => {
  const bytes = parseAddress(text);
  if (bytes === undefined) throw invalid(text);
  return bytes;
};

/**
 * The form in which policy, guard, audit and dialler all see an address: zone id stripped, IPv4-mapped
 * turned into IPv4, IPv6 in RFC 5952 form.
 * @throws AppError ERR_POLICY_ADDRESS when it is no address
 */
export const normalizeAddress = (text: string): string => {
  const address = canonicalAddress(text);
  if (address === undefined) throw invalid(withoutZone(text));
  return address;
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
