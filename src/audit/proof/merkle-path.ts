import { nodeHash } from '../seal/merkle.ts';

/** The audit path of RFC 6962 §2.1.1: the siblings from a leaf up to the root, without those levels where it has none. */
export const pathOf = (leaves: readonly Uint8Array[], index: number): Buffer[] => {
  const path: Buffer[] = [];
  let level = leaves;
  for (let at = index; level.length > 1; at >>= 1) {
    const sibling = level[at ^ 1];
    if (sibling !== undefined) path.push(Buffer.from(sibling));
    const above: Uint8Array[] = [];
    for (let left = 0; left < level.length; left += 2) {
      const [one, other] = [level[left], level[left + 1]];
      if (one !== undefined) above.push(other === undefined ? one : nodeHash(one, other));
    }
    level = above;
  }
  return path;
};

/** The root that a path leads to from leaf `index` of `count`; undefined when the path is not as long as it must be. */
export const rootOfPath = (
  leaf: Uint8Array,
  index: number,
  count: number,
  path: readonly Uint8Array[],
): Buffer | undefined => {
  let node: Buffer = Buffer.from(leaf);
  let used = 0;
  for (let at = index, width = count; width > 1; at >>= 1, width = (width + 1) >> 1) {
    if ((at ^ 1) >= width) continue;
    const sibling = path[used];
    if (sibling === undefined) return undefined;
    node = at % 2 === 1 ? nodeHash(sibling, node) : nodeHash(node, sibling);
    used += 1;
  }
  return used === path.length ? node : undefined;
};
