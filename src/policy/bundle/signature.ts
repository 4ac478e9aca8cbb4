import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { z } from 'zod';
import { AppError, messageOf } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';
import type { ArchiveFiles } from './archive.ts';
import { baseOf, type FileToHash, hashFile, SIGNING_HASH } from './file-hash.ts';
import { hashInThread } from './hash-thread.ts';

/** Where OPA keeps the signature of a bundle. */
export const SIGNATURES_FILE = '.signatures.json';
/** Longest signatures file: 4,096 files of an archive, with room. */
const MAX_SIGNATURES_BYTES = 4 * 1024 * 1024;
/** RFC 7518 §3.3: shorter RSA keys must not be used. */
const MIN_RSA_BITS = 2_048;
const ES256_CURVE = 'prime256v1';

/** JWS algorithms (RFC 7518) of a bundle signature. */
export const SIGNATURE_ALGORITHMS = ['RS256', 'ES256'] as const;
export type SignatureAlgorithm = (typeof SIGNATURE_ALGORITHMS)[number];

/** A key that the configuration trusts, with the one algorithm it is trusted for. */
export interface VerificationKey {
  readonly id: string;
  readonly algorithm: SignatureAlgorithm;
  readonly publicKey: KeyObject;
}

/** What a verified signature vouches for. */
export interface VerifiedSignature {
  /** The configured id of the key that verifies it. */
  readonly keyId: string;
  /** Structured files by name, as the very text that was hashed; nothing else may be read of them. */
  readonly structured: ReadonlyMap<string, string>;
}

const refused = (what: string, cause?: unknown): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_SIGNATURE', what, { cause });

const badKey = (what: string, cause?: unknown): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_KEY', what, { cause });

/** The algorithm that a key can sign by. @throws AppError ERR_POLICY_KEY when there is none */
export const algorithmOf = (key: KeyObject, name: string): SignatureAlgorithm => {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === 'rsa') {
    const bits = details?.modulusLength ?? 0;
    if (bits >= MIN_RSA_BITS) return 'RS256';
    throw badKey(`${name} has ${String(bits)} bits, an rsa key has at least ${String(MIN_RSA_BITS)}`);
  }
  if (type === 'ec' && details?.namedCurve === ES256_CURVE) return 'ES256';
  const curve = details?.namedCurve === undefined ? '' : ` on ${details.namedCurve}`;
  throw badKey(`${name} is of type ${type ?? 'secret'}${curve}; bundles are signed by rsa or p-256 keys`);
};

/**
 * A key as the configuration gives it: a public key or certificate in PEM.
 * @throws AppError ERR_POLICY_KEY when it is none, is a private key, or does not fit its algorithm
 */
export const verificationKey = (id: string, algorithm: SignatureAlgorithm, pem: string): VerificationKey => {
  const name = `public key '${id}'`;
  if (pem.includes('PRIVATE KEY'))
    throw badKey(`${name} is a private key; only its public half belongs here`);
  let publicKey: KeyObject;
  try {
    publicKey = createPublicKey(pem);
  } catch (cause) {
    throw badKey(`${name} is not a public key in pem: ${messageOf(cause)}`, cause);
  }
  const fitting = algorithmOf(publicKey, name);
  if (fitting !== algorithm) throw badKey(`${name} signs ${fitting}, its algorithm is given as ${algorithm}`);
  return { id, algorithm, publicKey };
};

/** Whether raw signature bytes (RFC 7518: of ES256 r and s, not DER) are the key's over `input`. */
export const isSignedBy = (key: Omit<VerificationKey, 'id'>, input: Buffer, signature: Buffer): boolean =>
  key.algorithm === 'ES256'
    ? verify('sha256', input, { key: key.publicKey, dsaEncoding: 'ieee-p1363' }, signature)
    : verify('sha256', input, key.publicKey, signature);

/** The files that a signature covers: all but itself. @throws AppError ERR_POLICY_SIGNATURE */
const coveredFiles = (files: ArchiveFiles): [string, Buffer][] => {
  const covered = [...files].filter(([name]) => name !== SIGNATURES_FILE);
  const second = covered.find(([name]) => baseOf(name) === SIGNATURES_FILE);
  if (second !== undefined) throw refused(`'${second[0]}' is a second signatures file`);
  return covered.sort(([left], [right]) => (left < right ? -1 : 1));
};

interface FileHash {
  readonly name: string;
  readonly hash: string;
  readonly algorithm: string;
}

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/**
 * The text that is signed (RFC 7515 §5.1), byte for byte what OPA's own signer makes of the same files.
 * @throws AppError ERR_POLICY_SIGNATURE for files that cannot be in a signed bundle
 */
export const signingInput = (
  files: ArchiveFiles,
  algorithm: SignatureAlgorithm,
  keyId: string | undefined,
): string => {
  const hashes = coveredFiles(files).map(([name, content]): FileHash => {
    try {
      const { hash } = hashFile({ name, content, algorithm: SIGNING_HASH });
      return { name, hash, algorithm: SIGNING_HASH };
    } catch (cause) {
      throw refused(messageOf(cause), cause);
    }
  });
  const named = keyId === undefined ? {} : { kid: keyId };
  const header = { alg: algorithm, ...named, typ: 'JWT' };
  return `${part(header)}.${part({ files: hashes, ...(keyId === undefined ? {} : { keyid: keyId }) })}`;
};

/** The content of a signatures file, in OPA's layout. */
export const signaturesText = (input: string, signature: Buffer): string =>
  JSON.stringify({ signatures: [`${input}.${signature.toString('base64url')}`] }, null, 1);

const signaturesSchema = z.object({ signatures: z.array(z.string()), plugin: z.string().optional() });
const headerSchema = z.looseObject({ alg: z.string(), crit: z.undefined().optional() });
const payloadSchema = z.looseObject({
  files: z.array(z.object({ name: z.string(), hash: z.string(), algorithm: z.string() })),
  scope: z.string().optional(),
});

const parse = <T>(text: string, what: string, schema: z.ZodType<T>): T => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw refused(`${what} is not json: ${messageOf(cause)}`, cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw refused(`${what}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'is malformed'}`);
};

const BASE64URL = /^[A-Za-z0-9_-]+$/;

interface Token {
  readonly algorithm: string;
  readonly input: Buffer;
  readonly signature: Buffer;
  readonly payload: string;
}

const readToken = (content: Buffer): Token => {
  if (content.length > MAX_SIGNATURES_BYTES) {
    throw refused(
      `${SIGNATURES_FILE} has ${String(content.length)} bytes, the limit is ${String(MAX_SIGNATURES_BYTES)}`,
    );
  }
  const { signatures, plugin } = parse(content.toString('utf8'), SIGNATURES_FILE, signaturesSchema);
  if (plugin !== undefined && plugin !== '') throw refused(`${SIGNATURES_FILE} wants a plugin to verify it`);
  const [token] = signatures;
  if (token === undefined || signatures.length > 1) {
    throw refused(`${SIGNATURES_FILE} has ${String(signatures.length)} signatures, exactly one is read`);
  }
  const [header, payload, signature, ...rest] = token.split('.');
  const isToken =
    header !== undefined &&
    payload !== undefined &&
    signature !== undefined &&
    rest.length === 0 &&
    [header, payload, signature].every((text) => BASE64URL.test(text));
  if (!isToken) throw refused(`the signature in ${SIGNATURES_FILE} is not a json web token`);
  const decoded = (text: string): string => Buffer.from(text, 'base64url').toString('utf8');
  return {
    algorithm: parse(decoded(header), 'header of the signature', headerSchema).alg,
    input: Buffer.from(`${header}.${payload}`, 'latin1'),
    signature: Buffer.from(signature, 'base64url'),
    payload: decoded(payload),
  };
};

const hashesOf = (payload: string): Map<string, FileHash> => {
  const { files, scope } = parse(payload, 'payload of the signature', payloadSchema);
  // A scope narrows what a signature is for; none is configured here, so one that has any was meant for others.
  if (scope !== undefined && scope !== '') throw refused(`the signature is for scope '${scope}'`);
  const hashes = new Map(files.map((file) => [file.name, file]));
  if (hashes.size < files.length) throw refused('the signature names a file twice');
  return hashes;
};

/**
 * Verifies the signature of a bundle: made by one of these keys by the algorithm that is configured for it, over
 * exactly the files that are there. Nothing that the token says of itself chooses key or algorithm: every key is tried.
 * @throws AppError ERR_POLICY_UNSIGNED without a signature, ERR_POLICY_SIGNATURE for one that does not hold
 */
export const verifySignature = async (
  files: ArchiveFiles,
  keys: readonly VerificationKey[],
): Promise<VerifiedSignature> => {
  const content = files.get(SIGNATURES_FILE);
  if (content === undefined) {
    throw new AppError<PolicyErrorCode>('ERR_POLICY_UNSIGNED', 'the bundle is not signed');
  }
  const token = readToken(content);
  const key = keys.find(
    (candidate) =>
      candidate.algorithm === token.algorithm && isSignedBy(candidate, token.input, token.signature),
  );
  if (key === undefined) {
    const tried = keys.map(({ id, algorithm }) => `${id} (${algorithm})`).join(', ');
    throw refused(
      `none of the configured keys verifies the signature, which says ${token.algorithm}: ${tried || 'there are none'}`,
    );
  }
  const hashes = hashesOf(token.payload);
  const covered = coveredFiles(files).map(([name, file]): FileToHash => {
    const signed = hashes.get(name);
    if (signed === undefined) throw refused(`'${name}' is not covered by the signature`);
    return { name, content: file, algorithm: signed.algorithm };
  });
  const names = new Set(covered.map(({ name }) => name));
  const missing = [...hashes.keys()].find((name) => !names.has(name));
  if (missing !== undefined) throw refused(`'${missing}' was signed and is not in the bundle`);
  const hashed = await hashInThread(covered).catch((cause: unknown) => {
    throw refused(messageOf(cause), cause);
  });
  const altered = hashed.find(({ name, hash }) => hash !== hashes.get(name)?.hash.toLowerCase());
  if (altered !== undefined) throw refused(`'${altered.name}' is not what was signed`);
  const structured = new Map(hashed.flatMap(({ name, text }) => (text === undefined ? [] : [[name, text]])));
  return { keyId: key.id, structured };
};
