import { addressText } from '../../runtime/index.ts';
import { addressBytes } from '../address.ts';

/** Networks of one condition; more addresses are put into wider networks. */
export const MAX_NETWORKS = 32;
const BYTE_BITS = 8;
/** Prefix lengths that are tried in turn, in bytes: single addresses, then what a site usually has. */
const PREFIX_BYTES = { 4: [4, 3, 2], 16: [16, 8, 6] } as const;

const networkOf = (bytes: readonly number[], prefixBytes: number): string => {
  const network = bytes.map((byte, index) => (index < prefixBytes ? byte : 0));
  return `${addressText(network)}/${String(prefixBytes * BYTE_BITS)}`;
};

/**
 * The narrowest networks, at most `MAX_NETWORKS` of each family where that is possible, that hold every address; in
 * order, each once. Single addresses first, then /24 (IPv6: /64), then /16 (/48).
 * @throws AppError ERR_POLICY_ADDRESS
 */
export const networksOf = (addresses: Iterable<string>): string[] => {
  const all = [...new Set(addresses)].map(addressBytes);
  return ([4, 16] as const).flatMap((length) => {
    const family = all.filter((bytes) => bytes.length === length);
    let networks: string[] = [];
    for (const prefix of PREFIX_BYTES[length]) {
      networks = [...new Set(family.map((bytes) => networkOf(bytes, prefix)))].sort();
      if (networks.length <= MAX_NETWORKS) break;
    }
    return networks;
  });
};
