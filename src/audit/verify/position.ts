import { isDeepStrictEqual } from 'node:util';
import { readSeal, sealDigest } from '../seal/seal.ts';

/** Where a walk through one chain stands, and what of the way there the next seal is compared with. Plain data. */
export interface Position {
  /** `batch_no` of the last row, as the database writes it; null at the start. */
  readonly place: string | null;
  /** The largest batch number so far; 0 at the start. */
  readonly lastBatch: number;
  /** Last sequence number that a sound seal covered; null when none did. No event up to it is read again. */
  readonly covered: number | null;
  /** The batch before is there and its seal is sound: what follows can be compared with it. */
  readonly known: boolean;
  /** Of the last seal, when it is sound. */
  readonly last: { readonly last: number; readonly final: boolean } | null;
  /** Of the stored bytes of the last seal, hex. */
  readonly digest: string | null;
}

/** Before the first batch of a chain. */
export const START: Position = {
  place: null,
  lastBatch: 0,
  covered: null,
  known: true,
  last: null,
  digest: null,
};

export const samePosition = (a: Position, b: Position): boolean => isDeepStrictEqual(a, b);

export interface PlacedSeal {
  readonly chain: string;
  /** `batch_no` as the database writes it. */
  readonly place: string;
  readonly canonical: Buffer;
}

/**
 * Where a walk most likely stands behind this seal, told from nothing but the seal: right when everything up to it is
 * sound. Who goes on from here has to compare it with where the walk came out.
 */
export const likelyAfter = ({ chain, place, canonical }: PlacedSeal): Position => {
  const text = canonical.toString('utf8');
  const seal = readSeal(text);
  const digest = sealDigest(text).toString('hex');
  const lastBatch = Math.max(Number(place), 0);
  if (seal === undefined || seal.chain !== chain || String(seal.batch) !== place) {
    return { place, lastBatch, covered: null, known: false, last: null, digest };
  }
  const { last, final } = seal;
  return { place, lastBatch, covered: last, known: true, last: { last, final }, digest };
};
