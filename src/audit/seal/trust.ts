import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';
import { type Clock, messageOf, writeFileAtomically } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { canonicalJson } from '../event/canonical.ts';
import { openAuditKey, readAuditKey, signatureCheck, signerOf } from './audit-key.ts';

const TRUST_TAG = 'sallyport.audit.trust.v1\n';
/** A trust file is public: whoever verifies must be able to read it. */
const TRUST_FILE_MODE = 0o644;

/** Kind of a signer that may ask for retention, and may not seal. */
export const OPERATOR_KIND = 'operator';
/** The kind of a key that signs exports, and nothing else. */
export const EXPORTER_KIND = 'exporter';
const SEALS_NOTHING: readonly string[] = [OPERATOR_KIND, EXPORTER_KIND];

const publicKey = z.string().regex(/^[0-9a-f]{64}$/);

const signerSchema = z.strictObject({
  signer: z.string(),
  public_key: publicKey,
  /** `agent` or `relay`: signs seals. `operator`: signs requests for retention, and no seals. */
  kind: z.string(),
  name: z.string(),
  added_at: z.string(),
  /** Seals of later time by this signer are a finding. */
  revoked_at: z.string().nullable(),
});

const trustSchema = z.strictObject({
  v: z.literal(1),
  /** Raw public key of the audit root, hex. */
  root: publicKey,
  /** One more with each change. */
  sequence: z.int().positive(),
  signers: z.array(signerSchema),
  /** Ed25519 by the root over SHA-256(tag ‖ RFC 8785 of all other fields), hex. */
  signature: z.string().regex(/^[0-9a-f]{128}$/),
});

export type TrustedSigner = Readonly<z.output<typeof signerSchema>>;
export type TrustFile = Readonly<z.output<typeof trustSchema>>;

/** Whether a key may sign seals: one for requests or exports is held by whoever may use the database. */
export const maySeal = ({ kind }: TrustedSigner): boolean => !SEALS_NOTHING.includes(kind);

/** Whether a signer was revoked by this time (RFC 3339): a time that is none is not before the revocation. */
export const isRevokedAt = ({ revoked_at: revokedAt }: TrustedSigner, time: string): boolean =>
  revokedAt !== null && !(Date.parse(time) < Date.parse(revokedAt));

const digestOf = (unsigned: Omit<TrustFile, 'signature'>): Buffer =>
  createHash('sha256').update(TRUST_TAG).update(canonicalJson(unsigned)).digest();

const writeTrust = (
  file: string,
  rootKeyFile: string,
  signers: readonly TrustedSigner[],
  sequence: number,
): TrustFile => {
  const root = readAuditKey(rootKeyFile);
  const unsigned = { v: 1 as const, root: root.publicKey, sequence, signers: [...signers] };
  const trust: TrustFile = { ...unsigned, signature: root.sign(digestOf(unsigned)).toString('hex') };
  writeFileAtomically(file, `${JSON.stringify(trust, null, 2)}\n`, TRUST_FILE_MODE);
  return trust;
};

/**
 * Reads a trust file and checks the root's signature over it. With `root` (raw public key, hex) the file
 * must be signed by exactly that root; without, by the root that it names.
 * @throws AppError ERR_AUDIT_TRUST_INVALID
 */
export const loadTrust = (file: string, root?: string): TrustFile => {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw auditError('ERR_AUDIT_TRUST_INVALID', `trust file ${file} is not readable: ${messageOf(cause)}`, {
      cause,
    });
  }
  const parsed = trustSchema.safeParse(value);
  if (!parsed.success) throw auditError('ERR_AUDIT_TRUST_INVALID', `trust file ${file} has no such form`);
  const { signature, ...unsigned } = parsed.data;
  if (root !== undefined && root !== unsigned.root) {
    throw auditError(
      'ERR_AUDIT_TRUST_INVALID',
      `trust file ${file} is of root ${signerOf(unsigned.root)}, not ${signerOf(root)}`,
    );
  }
  const check = signatureCheck(unsigned.root);
  if (check?.(digestOf(unsigned), Buffer.from(signature, 'hex')) !== true) {
    throw auditError('ERR_AUDIT_TRUST_INVALID', `trust file ${file} is not signed by its root`);
  }
  const seen = new Set<string>();
  for (const entry of unsigned.signers) {
    // Of two entries one may be revoked and the other not.
    if (seen.has(entry.signer))
      throw auditError('ERR_AUDIT_TRUST_INVALID', `trust file ${file}: ${entry.signer} is there twice`);
    seen.add(entry.signer);
    if (signerOf(entry.public_key) !== entry.signer) {
      throw auditError(
        'ERR_AUDIT_TRUST_INVALID',
        `trust file ${file}: key of ${entry.signer} has another id`,
      );
    }
  }
  return parsed.data;
};

/** Makes (or keeps) the offline audit root key and a trust file signed by it. Idempotent. */
export const createAuditRoot = (options: { rootKeyFile: string; trustFile: string }): TrustFile => {
  openAuditKey(options.rootKeyFile);
  if (existsSync(options.trustFile))
    return loadTrust(options.trustFile, readAuditKey(options.rootKeyFile).publicKey);
  return writeTrust(options.trustFile, options.rootKeyFile, [], 1);
};

/** Vouches for a signer (raw public key, hex) under the root's signature. Adding it again changes nothing. */
export const addSigner = (options: {
  rootKeyFile: string;
  trustFile: string;
  publicKey: string;
  kind: string;
  name: string;
  clock: Clock;
}): TrustFile => {
  const trust = loadTrust(options.trustFile, readAuditKey(options.rootKeyFile).publicKey);
  if (trust.signers.some((entry) => entry.public_key === options.publicKey)) return trust;
  const entry: TrustedSigner = {
    signer: signerOf(options.publicKey),
    public_key: options.publicKey,
    kind: options.kind,
    name: options.name,
    added_at: new Date(options.clock.nowMs()).toISOString(),
    revoked_at: null,
  };
  return writeTrust(options.trustFile, options.rootKeyFile, [...trust.signers, entry], trust.sequence + 1);
};

/** Marks a signer as not to be believed from now on. */
export const revokeSigner = (options: {
  rootKeyFile: string;
  trustFile: string;
  signer: string;
  clock: Clock;
}): TrustFile => {
  const trust = loadTrust(options.trustFile, readAuditKey(options.rootKeyFile).publicKey);
  if (!trust.signers.some((entry) => entry.signer === options.signer)) {
    throw auditError(
      'ERR_AUDIT_TRUST_INVALID',
      `trust file ${options.trustFile} has no signer ${options.signer}`,
    );
  }
  const revokedAt = new Date(options.clock.nowMs()).toISOString();
  const signers = trust.signers.map((entry) =>
    entry.signer === options.signer && entry.revoked_at === null
      ? { ...entry, revoked_at: revokedAt }
      : entry,
  );
  return writeTrust(options.trustFile, options.rootKeyFile, signers, trust.sequence + 1);
};
