import { addressText, parseAddress } from './ip-address.ts';

/** Loopback addresses that gateways give to the hosts of transparent names (docs/transparent-names.md). */
export const NAME_RANGE = '127.77.0.0/16';
const NAME_PREFIX = [127, 77];
/** Last octets 0 and 255 are left out: some software takes them for a network and its broadcast. */
const LAST_OCTETS = 254;
/** Addresses that a gateway may give away. */
export const NAME_ADDRESSES = 256 * LAST_OCTETS;
/** Link-local, in front of the four bytes of the name's own address. */
const SINK_PREFIX = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const startsWith = (bytes: readonly number[], prefix: readonly number[]): boolean =>
  prefix.every((byte, index) => bytes[index] === byte);

/** The address number `index`. @param index 0 up to NAME_ADDRESSES, exclusive */
export const nameAddress = (index: number): string =>
  addressText([...NAME_PREFIX, Math.floor(index / LAST_OCTETS), 1 + (index % LAST_OCTETS)]);

/**
 * What a look-up for IPv6 alone finds for a name at `address`: a link-local address without a zone, to which no socket
 * connects. Without it the C library would go on to DNS, and lead the application past the gateway.
 */
export const nameSink = (address: string): string =>
  addressText([...SINK_PREFIX, ...(parseAddress(address) ?? [])]);

/** Whether an address is one that a hosts file has for a transparent name. */
export const isNameAddress = (address: string): boolean => {
  const bytes = parseAddress(address) ?? [];
  return startsWith(bytes, NAME_PREFIX) || startsWith(bytes, [...SINK_PREFIX, ...NAME_PREFIX]);
};
