import { addressBytes } from './address.ts';

/** A network: the first `bits` bits of an IPv4 (4 bytes) or IPv6 (16 bytes) address. */
export interface AddressRange {
  readonly bytes: readonly number[];
  readonly bits: number;
}

const BYTE_BITS = 8;

/**
 * Reads `ADDRESS/BITS`; an address alone stands for itself.
 * @throws AppError ERR_POLICY_ADDRESS when the address is none; Error when the length is none or bits behind it are set
 */
export const parseRange = (text: string): AddressRange => {
  const [address = '', length, ...rest] = text.split('/');
  const bytes = addressBytes(address);
  const most = bytes.length * BYTE_BITS;
  if (length === undefined) return { bytes, bits: most };
  const bits = /^\d{1,3}$/.test(length) ? Number(length) : Number.NaN;
  if (rest.length > 0 || Number.isNaN(bits) || bits > most) {
    throw new Error(`'/${[length, ...rest].join('/')}' is no prefix length (0 to ${most})`);
  }
  const isSet = (bit: number): boolean => (((bytes[bit >> 3] ?? 0) >> (BYTE_BITS - 1 - (bit & 7))) & 1) === 1;
  for (let bit = bits; bit < most; bit += 1) {
    if (isSet(bit)) throw new Error(`bits behind the prefix length ${bits} are set`);
  }
  return { bytes, bits };
};

/** True when the address is in the range; addresses of another family never are. */
export const isInRange = (bytes: readonly number[], { bytes: prefix, bits }: AddressRange): boolean => {
  if (bytes.length !== prefix.length) return false;
  const whole = bits >> 3;
  for (let index = 0; index < whole; index += 1) if (bytes[index] !== prefix[index]) return false;
  const rest = bits & 7;
  if (rest === 0) return true;
  const shift = BYTE_BITS - rest;
  return (bytes[whole] ?? 0) >> shift === (prefix[whole] ?? 0) >> shift;
};
