import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import {
  foreignCodeOf,
  makePrivateDirectory,
  messageOf,
  PRIVATE_FILE_MODE,
  syncDirectory,
} from '../../runtime/index.ts';
import { auditError } from '../errors.ts';

export const SIGNATURE_BYTES = 64;
const PUBLIC_KEY_BYTES = 32;
const SIGNER_DIGITS = 20;
/** DER of a SubjectPublicKeyInfo for Ed25519 up to the 32 key bytes (RFC 8410 §4). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/** An Ed25519 key that signs seals or trust files. */
export interface AuditKey {
  /** `s_` + the first 20 hex digits of SHA-256 over the raw public key. */
  readonly signer: string;
  /** Raw public key, 64 hex digits. */
  readonly publicKey: string;
  /** The 64-byte signature of a message. */
  sign(message: Uint8Array): Buffer;
}

/** The id under which seals and the trust file name a public key (raw, hex). */
export const signerOf = (publicKey: string): string =>
  `s_${createHash('sha256').update(Buffer.from(publicKey, 'hex')).digest('hex').slice(0, SIGNER_DIGITS)}`;

const rawPublicKey = (key: KeyObject): string =>
  (key.type === 'public' ? key : createPublicKey(key))
    .export({ type: 'spki', format: 'der' })
    .subarray(-PUBLIC_KEY_BYTES)
    .toString('hex');

const keyOf = (privateKey: KeyObject): AuditKey => {
  const publicKey = rawPublicKey(privateKey);
  return { publicKey, signer: signerOf(publicKey), sign: (message) => sign(null, message, privateKey) };
};

/**
 * Reads an audit key.
 * @throws AppError ERR_AUDIT_KEY_INVALID when the file is not a readable Ed25519 private key.
 */
export const readAuditKey = (file: string): AuditKey => {
  let key: KeyObject;
  try {
    key = createPrivateKey(readFileSync(file));
  } catch (cause) {
    throw auditError('ERR_AUDIT_KEY_INVALID', `audit key ${file} is not readable: ${messageOf(cause)}`, {
      cause,
    });
  }
  if (key.asymmetricKeyType !== 'ed25519') {
    throw auditError(
      'ERR_AUDIT_KEY_INVALID',
      `audit key ${file} is ${key.asymmetricKeyType ?? 'no'} key, not ed25519`,
    );
  }
  return keyOf(key);
};

/** A raw public key as text, and nothing else. */
const HEX_KEY = /^[0-9a-f]{64}$/i;

/**
 * Reads the public half of an audit key (raw, 64 hex digits), for whoever may not have the private one: a public key in PEM,
 * the 64 digits themselves, or a private key in PEM.
 * @throws AppError ERR_AUDIT_KEY_INVALID
 */
export const readAuditPublicKey = (file: string): string => {
  let key: KeyObject;
  try {
    const text = readFileSync(file, 'utf8');
    if (HEX_KEY.test(text.trim())) return text.trim().toLowerCase();
    key = createPublicKey(text);
  } catch (cause) {
    throw auditError(
      'ERR_AUDIT_KEY_INVALID',
      `audit key ${file} is no key in pem and no public key of 64 hex digits: ${messageOf(cause)}`,
      { cause },
    );
  }
  if (key.asymmetricKeyType !== 'ed25519') {
    const type = key.asymmetricKeyType ?? 'no';
    throw auditError('ERR_AUDIT_KEY_INVALID', `audit key ${file} is ${type} key, not ed25519`);
  }
  return rawPublicKey(key);
};

/**
 * Reads the audit key of a file, or makes one there (0600, durable) when there is none.
 * @throws AppError ERR_AUDIT_KEY_INVALID
 */
export const openAuditKey = (file: string): AuditKey => {
  makePrivateDirectory(dirname(file));
  let handle: number;
  try {
    handle = openSync(file, 'wx', PRIVATE_FILE_MODE);
  } catch (cause) {
    if (foreignCodeOf(cause) === 'EEXIST') return readAuditKey(file);
    throw auditError('ERR_AUDIT_KEY_INVALID', `audit key ${file} cannot be made: ${messageOf(cause)}`, {
      cause,
    });
  }
  try {
    writeFileSync(handle, generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }));
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  syncDirectory(dirname(file));
  return readAuditKey(file);
};

/** A verifier for one raw public key (hex); `undefined` when it is no Ed25519 key. */
export const signatureCheck = (
  publicKey: string,
): ((message: Uint8Array, signature: Uint8Array) => boolean) | undefined => {
  const raw = Buffer.from(publicKey, 'hex');
  if (raw.length !== PUBLIC_KEY_BYTES) return undefined;
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' });
  } catch {
    return undefined;
  }
  return (message, signature) =>
    signature.length === SIGNATURE_BYTES && verify(null, message, key, signature);
};
