import { createHash } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson } from '../event/canonical.ts';
import type { AuditKey } from '../seal/audit-key.ts';

/** First bytes of the hash input of a checkpoint. */
const CHECKPOINT_TAG = 'sallyport.audit.checkpoint.v1\n';
/** Heads of one checkpoint, about 150 bytes each; chains that another one continues are not among them. */
export const MAX_CHECKPOINT_HEADS = 1_000;
/** The line of a checkpoint, about 150 KB with all its heads; a longer one is none. */
export const MAX_LINE_BYTES = 1024 * 1024;

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const uuid = z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
const instant = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/)
  .refine((text) => !Number.isNaN(Date.parse(text)));

const headSchema = z.strictObject({ chain: uuid, batch: z.int().positive(), seal: hash });

const checkpointSchema = z
  .strictObject({
    v: z.literal(1),
    alg: z.literal('Ed25519'),
    id: uuid,
    /** Checkpoints that one writer makes for one place, each naming the one before it. */
    series: uuid,
    /** In its series, from 1, without gaps. */
    number: z.int().positive(),
    /** Digest of the checkpoint before it in the series; null in the first. */
    prev: hash.nullable(),
    /** Id of the last one of the series that the database is known to have. */
    stored: uuid.nullable(),
    time: instant,
    /** The writer's own last seal on its disk; the database need not have it yet. */
    own: headSchema.nullable(),
    /** Seals that the database had, one for a chain, in the order of the chains' ids. */
    heads: z.array(headSchema).max(MAX_CHECKPOINT_HEADS + 1),
    /** Chains left out; null when the database could not be asked. */
    omitted: z.int().nonnegative().nullable(),
    signer: z.string().regex(/^s_[0-9a-f]{20}$/),
  })
  .refine(
    ({ number, prev, heads }) =>
      (number === 1) === (prev === null) &&
      heads.every(({ chain }, at) => at === 0 || chain > (heads[at - 1]?.chain ?? '')),
  );

export type Checkpoint = Readonly<z.output<typeof checkpointSchema>>;
export type CheckpointHead = Readonly<z.output<typeof headSchema>>;

/** A checkpoint as it is stored and sent, byte for byte. */
export interface SignedCheckpoint {
  readonly checkpoint: Checkpoint;
  /** RFC 8785 form. */
  readonly text: string;
  /** SHA-256(tag ‖ text). */
  readonly digest: Buffer;
  /** Ed25519 over the digest. */
  readonly signature: Buffer;
}

const lineSchema = z.strictObject({
  checkpoint: z.unknown(),
  signature: z.string().regex(/^[0-9a-f]{128}$/),
});

const digestOf = (text: string): Buffer => createHash('sha256').update(CHECKPOINT_TAG).update(text).digest();

/** Signs what a writer saw. */
export const signCheckpoint = (
  unsigned: Omit<Checkpoint, 'v' | 'alg' | 'signer'>,
  key: AuditKey,
): SignedCheckpoint => {
  const checkpoint: Checkpoint = { ...unsigned, v: 1, alg: 'Ed25519', signer: key.signer };
  const text = canonicalJson(checkpoint);
  const digest = digestOf(text);
  return { checkpoint, text, digest, signature: key.sign(digest) };
};

/** The line of a file, or the body of a request, without its LF. */
export const checkpointLine = ({ text, signature }: SignedCheckpoint): string =>
  `{"checkpoint":${text},"signature":"${signature.toString('hex')}"}`;

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** A checkpoint of canonical text and signature; `undefined` when the text is none, or not in canonical form. */
export const readCheckpoint = (text: string, signature: Buffer): SignedCheckpoint | undefined => {
  const parsed = checkpointSchema.safeParse(parse(text));
  if (!parsed.success || canonicalJson(parsed.data) !== text) return undefined;
  return { checkpoint: parsed.data, text, digest: digestOf(text), signature };
};

/** A checkpoint of a line, whatever white space or order of members it has; `undefined` when it holds none. */
export const readCheckpointLine = (line: string): SignedCheckpoint | undefined => {
  const outer = lineSchema.safeParse(parse(line));
  if (!outer.success) return undefined;
  const inner = checkpointSchema.safeParse(outer.data.checkpoint);
  return inner.success
    ? readCheckpoint(canonicalJson(inner.data), Buffer.from(outer.data.signature, 'hex'))
    : undefined;
};
