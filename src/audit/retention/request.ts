import { createHash } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson } from '../event/canonical.ts';
import { type AuditKey, signatureCheck } from '../seal/audit-key.ts';
import { isRevokedAt, OPERATOR_KIND, type TrustedSigner, type TrustFile } from '../seal/trust.ts';

/** First bytes of the hash input of a signed request. */
const RETENTION_TAG = 'sallyport.audit.retention.v1\n';
/** Most days of one request: all are detached in one transaction, about a millisecond each. */
export const MAX_REQUEST_DAYS = 100;
/** Most ranges of batches of one request: one for each chain and day, at about 150 bytes. */
export const MAX_REQUEST_RANGES = 20_000;

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const instant = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/)
  .refine((text) => !Number.isNaN(Date.parse(text)));

const rangeSchema = z.strictObject({
  chain: z.uuid(),
  first: z.int().positive(),
  last: z.int().positive(),
  /** Digest of the seal of batch `last`: it holds for everything before it. */
  seal: hash,
});

const requestSchema = z
  .strictObject({
    v: z.literal(1),
    alg: z.literal('Ed25519'),
    id: z.uuid(),
    /** When it was signed, by the operator's clock. */
    time: instant,
    /** Only what was sealed before this is meant. */
    before: instant,
    /** SHA-256 of the request carried out before this one, or null: it is confirmed with this one. */
    previous: hash.nullable(),
    /** Days (UTC) whose partitions go, `YYYYMMDD`. */
    days: z
      .array(z.string().regex(/^\d{8}$/))
      .min(1)
      .max(MAX_REQUEST_DAYS),
    batches: z.array(rangeSchema).max(MAX_REQUEST_RANGES),
    signer: z.string().regex(/^s_[0-9a-f]{20}$/),
  })
  .refine((request) => request.before <= request.time && request.batches.every((b) => b.first <= b.last));

/** What an operator asks to be removed. */
export type RetentionRequest = Readonly<z.output<typeof requestSchema>>;
export type RetainedRange = RetentionRequest['batches'][number];

export interface SignedRequest {
  readonly request: RetentionRequest;
  /** RFC 8785 form. */
  readonly text: string;
  /** Ed25519 over the digest of tag and text. */
  readonly signature: Buffer;
}

const digestOf = (text: string): Buffer => createHash('sha256').update(RETENTION_TAG).update(text).digest();

/** How events and later requests name a request: SHA-256 over its canonical bytes, hex. */
export const requestHash = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Signs a request as the operator whose key this is. */
export const signRequest = (
  unsigned: Omit<RetentionRequest, 'v' | 'alg' | 'signer'>,
  key: AuditKey,
): SignedRequest => {
  const request: RetentionRequest = { v: 1, alg: 'Ed25519', signer: key.signer, ...unsigned };
  const text = canonicalJson(request);
  return { request, text, signature: key.sign(digestOf(text)) };
};

/** Reads the canonical text of a request; `undefined` when it is not one, or not in canonical form. */
export const readRequest = (text: string): RetentionRequest | undefined => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const parsed = requestSchema.safeParse(value);
  return parsed.success && canonicalJson(parsed.data) === text ? parsed.data : undefined;
};

/** Who signed a request: an operator of the trust file, or why it is none. */
export const operatorOf = (
  trust: TrustFile,
  { request, text, signature }: SignedRequest,
): { readonly operator: TrustedSigner } | { readonly problem: string } => {
  const entry = trust.signers.find(({ signer }) => signer === request.signer);
  if (entry === undefined) return { problem: `the trust file does not know signer ${request.signer}` };
  if (entry.kind !== OPERATOR_KIND) {
    return { problem: `${request.signer} is vouched for as ${entry.kind}, not as ${OPERATOR_KIND}` };
  }
  if (signatureCheck(entry.public_key)?.(digestOf(text), signature) !== true) {
    return { problem: `the signature is not one of ${request.signer}` };
  }
  if (isRevokedAt(entry, request.time)) {
    return { problem: `operator ${request.signer} was revoked at ${entry.revoked_at}` };
  }
  return { operator: entry };
};
