interface Digest {
  readonly sha256: string;
}

/**
 * What a held activation leaves as it is. A bundle that is active already is held for the grants file that comes with it:
 * what was taken out of that file still counts.
 */
export const heldMeans = (held: Digest, active: Digest | undefined): string =>
  held.sha256 === active?.sha256
    ? 'it is the grants file that is held: until it is confirmed the grants before decide, and whoever was removed from it still has access, to new streams too'
    : 'until it is confirmed the bundle before decides, about new streams too';
