import { createHash } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson } from '../event/canonical.ts';
import type { AuditKey } from './audit-key.ts';

/** First bytes of the hash input of a seal. */
export const SEAL_TAG = 'sallyport.audit.seal.v1\n';
export const SEAL_ALGORITHM = 'Ed25519';
export const SEAL_VERSION = 1;

const hash = z.string().regex(/^[0-9a-f]{64}$/);

/** All fields of a seal; the canonical form holds every one of them. */
export const sealSchema = z.strictObject({
  v: z.literal(SEAL_VERSION),
  alg: z.literal(SEAL_ALGORITHM),
  /** Chain id, UUIDv7. */
  chain: z.uuid(),
  /** From 1, without gaps. */
  batch: z.int().positive(),
  /** Sequence numbers of the first and the last event; an empty final batch has `last = first - 1`. */
  first: z.int().positive(),
  last: z.int().nonnegative(),
  /** Count of events; 0 only in a final batch. */
  n: z.int().nonnegative(),
  /** Close events dropped since the previous seal, before they had a number. */
  dropped: z.int().nonnegative(),
  /** Merkle root over the leaves, hex. */
  root: hash,
  /** Digest of the previous seal of this chain; in batch 1, of the last seal of `prev_chain`, or null. */
  prev: hash.nullable(),
  /** In batch 1, the chain that this one continues; otherwise null. */
  prev_chain: z.uuid().nullable(),
  signer: z.string().regex(/^s_[0-9a-f]{20}$/),
  /** When it was sealed, by the writer's clock: RFC 3339, UTC, milliseconds. */
  time: z.string(),
  /** Boot epoch of the writer: one more with each chain of a spool. */
  epoch: z.int().positive(),
  /** No batch follows in this chain. */
  final: z.boolean(),
});

export type Seal = Readonly<z.output<typeof sealSchema>>;

/** A seal in the form that is stored and sent, byte for byte. */
export interface SignedSeal {
  readonly seal: Seal;
  /** RFC 8785 form of the seal. */
  readonly text: string;
  /** SHA-256(tag ‖ text). */
  readonly digest: Buffer;
  /** Ed25519 over the digest. */
  readonly signature: Buffer;
}

/** SHA-256 over the tag and the canonical form of a seal. */
export const sealDigest = (text: string): Buffer =>
  createHash('sha256').update(SEAL_TAG).update(text).digest();

/** Signs a seal. */
export const signSeal = (seal: Seal, key: AuditKey): SignedSeal => {
  const text = canonicalJson(seal);
  const digest = sealDigest(text);
  return { seal, text, digest, signature: key.sign(digest) };
};

/** Reads the canonical text of a seal; `undefined` when it is not one, or not in canonical form. */
export const readSeal = (text: string): Seal | undefined => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const parsed = sealSchema.safeParse(value);
  return parsed.success && canonicalJson(parsed.data) === text ? parsed.data : undefined;
};
