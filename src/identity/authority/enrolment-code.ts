import { createHash } from 'node:crypto';
import { AppError, type HostPort, formatHostPort, parseHostPort, randomBytes } from '../../runtime/index.ts';
import type { IdentityErrorCode } from '../errors.ts';

/** A code is good for so long, and once. */
export const ENROLMENT_CODE_LIFE_MS = 15 * 60 * 1000;
/** Longest text of a code: a host name has 253 characters at most. */
export const MAX_CODE_CHARS = 512;

const PREFIX = 'spe1_';
const SECRET_BYTES = 16;
const FINGERPRINT_BYTES = 32;
const CHECK_BYTES = 4;
const HEAD_BYTES = SECRET_BYTES + FINGERPRINT_BYTES;
const TEXT = /^spe1_[A-Za-z0-9_-]+$/;

/** What whoever enrols is told by way of the code, which never goes over the relay but for its secret. */
export interface EnrolmentCode {
  /** 128 bits; proves the right to enrol, once. */
  readonly secret: Buffer;
  /** SHA-256 of the namespace authority's key, 64 lower-case hex digits: no other authority is believed. */
  readonly authoritySpki: string;
  /** Where the relay takes control links. */
  readonly relay: HostPort;
}

const refuse = (message: string): AppError<IdentityErrorCode> =>
  new AppError<IdentityErrorCode>('ERR_IDENTITY_CODE', message);

const sha256 = (...parts: readonly (string | Buffer)[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** What is stored of a code, hex. One SHA-256 and no slow hash: 128 random bits cannot be guessed. */
export const codeDigest = (secret: Buffer): string =>
  sha256('sallyport.enrolment.v1\n', secret).toString('hex');

/** A new code for the ends that enrol at a relay. */
export const newEnrolmentCode = (
  of: Omit<EnrolmentCode, 'secret'>,
): EnrolmentCode & { readonly text: string } => {
  const secret = randomBytes(SECRET_BYTES);
  const body = Buffer.concat([
    secret,
    Buffer.from(of.authoritySpki, 'hex'),
    Buffer.from(formatHostPort(of.relay), 'utf8'),
  ]);
  const check = sha256(PREFIX, body).subarray(0, CHECK_BYTES);
  return { ...of, secret, text: `${PREFIX}${Buffer.concat([body, check]).toString('base64url')}` };
};

/**
 * Reads a code as somebody pasted it; white space around it does no harm, and one character mistaken is found.
 * @throws AppError ERR_IDENTITY_CODE, whose message has nothing of the code
 */
export const parseEnrolmentCode = (pasted: string): EnrolmentCode => {
  const text = pasted.trim();
  if (text.length > MAX_CODE_CHARS)
    throw refuse(`a code has at most ${MAX_CODE_CHARS} characters, this has ${text.length}`);
  if (!TEXT.test(text)) throw refuse(`a code begins with ${PREFIX} and has letters, digits, - and _`);
  const bytes = Buffer.from(text.slice(PREFIX.length), 'base64url');
  const body = bytes.subarray(0, -CHECK_BYTES);
  const isWhole =
    body.length > HEAD_BYTES &&
    sha256(PREFIX, body).subarray(0, CHECK_BYTES).equals(bytes.subarray(-CHECK_BYTES));
  if (!isWhole) throw refuse('the code is not whole: copy all of it');
  let relay: HostPort;
  try {
    relay = parseHostPort(body.subarray(HEAD_BYTES).toString('utf8'));
  } catch {
    throw refuse('the code names no relay');
  }
  return {
    secret: Buffer.from(body.subarray(0, SECRET_BYTES)),
    authoritySpki: body.subarray(SECRET_BYTES, HEAD_BYTES).toString('hex'),
    relay,
  };
};
