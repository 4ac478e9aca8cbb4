import type { Bundle, BundleTrust } from './bundle.ts';
import type { VerificationKey } from './signature.ts';

const isSame = (one: VerificationKey, other: VerificationKey): boolean =>
  one.algorithm === other.algorithm && one.publicKey.equals(other.publicKey);

/**
 * The key of `trust` that vouches for a bundle which was read under other keys: the very key that verified it then, under
 * whatever id. A signature that nobody looked at then vouches for nothing now.
 */
export const voucherOf = ({ signer }: Bundle, { keys }: BundleTrust): VerificationKey | undefined =>
  signer && keys.find((key) => isSame(key, signer));

/** Whether a bundle that was read under other keys may decide under these, without reading it again. */
export const isVouchedFor = (bundle: Bundle, trust: BundleTrust): boolean => {
  if (voucherOf(bundle, trust) !== undefined) return true;
  if (trust.requireSigned) return false;
  return !bundle.signed || trust.keys.length === 0;
};
