import { createHash } from 'node:crypto';

/** Domain separation of RFC 6962 §2.1: a leaf's hash input starts with this byte. */
export const LEAF_PREFIX = 0x00;
/** … and an inner node's with this one. */
const NODE_PREFIX = Buffer.from([0x01]);
export const HASH_BYTES = 32;

const leafPrefix = Buffer.from([LEAF_PREFIX]);

/** SHA-256(0x00 ‖ bytes). */
export const leafHash = (bytes: Uint8Array): Buffer =>
  createHash('sha256').update(leafPrefix).update(bytes).digest();

/** SHA-256(0x01 ‖ left ‖ right). */
export const nodeHash = (left: Uint8Array, right: Uint8Array): Buffer =>
  createHash('sha256').update(NODE_PREFIX).update(left).update(right).digest();

/** The Merkle tree hash of RFC 6962 §2.1 over leaf hashes in order; of no leaves, SHA-256 of nothing. */
export const merkleRoot = (leaves: readonly Uint8Array[]): Buffer => {
  if (leaves.length === 0) return createHash('sha256').digest();
  let level: readonly Uint8Array[] = leaves;
  while (level.length > 1) {
    const above: Uint8Array[] = [];
    for (let at = 0; at < level.length; at += 2) {
      const left = level[at];
      const right = level[at + 1];
      if (left !== undefined) above.push(right === undefined ? left : nodeHash(left, right));
    }
    level = above;
  }
  return Buffer.from(level[0] ?? []);
};
