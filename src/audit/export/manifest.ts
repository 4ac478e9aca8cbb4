import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { z } from 'zod';
import { messageOf } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { canonicalJson } from '../event/canonical.ts';
import { type AuditKey, signatureCheck } from '../seal/audit-key.ts';
import { EXPORTER_KIND, isRevokedAt, type TrustFile } from '../seal/trust.ts';

export const MANIFEST_FILE = 'manifest.json';

const MANIFEST_TAG = 'sallyport.audit.export.v1\n';
/** About 350 bytes a chain: some hundred thousand chains. */
const MAX_MANIFEST_BYTES = 64 * 1024 * 1024;

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().nonnegative();

const chainSchema = z.strictObject({
  chain: z.uuid(),
  first_batch: z.int().positive(),
  last_batch: z.int().positive(),
  first_seq: z.int().positive(),
  last_seq: count,
  events: count,
  /** Digest of the seal before the first batch, of this chain or of `prev_chain`; null when nothing was before. */
  prev: hash.nullable(),
  /** With batch 1: the chain that this one continues. */
  prev_chain: z.uuid().nullable(),
  /** Digest of the last seal. */
  head: hash,
  final: z.boolean(),
});

const manifestSchema = z.strictObject({
  v: z.literal(1),
  format: z.literal('jsonl'),
  exported_at: z.string(),
  /** What was asked for; null: no bound. Whole batches are exported, so that some events may lie outside. */
  from: z.string().nullable(),
  to: z.string().nullable(),
  exporter: z.strictObject({
    signer: z.string().regex(/^s_[0-9a-f]{20}$/),
    /** Raw Ed25519 public key, hex. */
    public_key: hash,
    /** Login of the database that it was read as. */
    login: z.string(),
    version: z.string(),
  }),
  files: z.array(
    z.strictObject({
      name: z.string().regex(/^evidence-\d{6}\.jsonl$/),
      bytes: count,
      sha256: hash,
      batches: count,
      events: count,
    }),
  ),
  batches: count,
  events: count,
  chains: z.array(chainSchema),
  /** Ed25519 by the exporter over SHA-256(tag ‖ RFC 8785 of all other members), hex. */
  signature: z.string().regex(/^[0-9a-f]{128}$/),
});

export type Manifest = Readonly<z.output<typeof manifestSchema>>;
export type ManifestChain = Readonly<z.output<typeof chainSchema>>;
export type ManifestFile = Manifest['files'][number];

const digestOf = (unsigned: Omit<Manifest, 'signature'>): Buffer =>
  createHash('sha256').update(MANIFEST_TAG).update(canonicalJson(unsigned)).digest();

export const signManifest = (unsigned: Omit<Manifest, 'signature'>, key: AuditKey): Manifest => ({
  ...unsigned,
  signature: key.sign(digestOf(unsigned)).toString('hex'),
});

/**
 * Reads the manifest of an export and checks that a key signed it that the trust file names as an exporter.
 * @throws AppError ERR_AUDIT_EXPORT_INVALID
 */
export const readManifest = (file: string, trust: TrustFile): Manifest => {
  const invalid = (what: string, cause?: unknown): Error =>
    auditError('ERR_AUDIT_EXPORT_INVALID', `manifest ${file} ${what}`, { cause });
  let value: unknown;
  try {
    const { size } = statSync(file);
    if (size > MAX_MANIFEST_BYTES) throw new Error(`${size} bytes are more than ${MAX_MANIFEST_BYTES}`);
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw invalid(`is not readable: ${messageOf(cause)}`, cause);
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalid(`has no such form: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`);
  }
  const { signature, ...unsigned } = parsed.data;
  const { public_key: publicKey, signer } = unsigned.exporter;
  const known = trust.signers.find((entry) => entry.public_key === publicKey && entry.signer === signer);
  if (known?.kind !== EXPORTER_KIND)
    throw invalid(`is signed by ${signer}, which the trust file does not name as exporter`);
  if (isRevokedAt(known, unsigned.exported_at)) {
    throw invalid(`is signed by ${signer}, which was revoked at ${known.revoked_at}`);
  }
  if (signatureCheck(publicKey)?.(digestOf(unsigned), Buffer.from(signature, 'hex')) !== true) {
    throw invalid(`does not bear the signature of ${signer}`);
  }
  return parsed.data;
};
