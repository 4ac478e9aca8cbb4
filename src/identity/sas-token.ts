import { createHmac, timingSafeEqual } from 'node:crypto';
import { AppError } from '../runtime/index.ts';
import type { IdentityErrorCode } from './errors.ts';

/** Longest token read, in UTF-16 code units; Azure's own are below 600. */
export const MAX_SAS_TOKEN_LENGTH = 4_096;
/** SHA-256 output. */
const SIGNATURE_BYTES = 32;
const PREFIX = /^SharedAccessSignature[ \t]+/i;
/** Seconds since the epoch with up to 11 digits stay exact and below the year 5138. */
const EXPIRY = /^\d{1,11}$/;

/** A token taken apart; nothing is verified yet. */
export interface SasToken {
  /** `sr` as it stood in the token, still percent-encoded: these characters are what was signed. */
  readonly rawResource: string;
  /** `sr`, decoded. */
  readonly resource: string;
  /** `se` as it stood in the token: signed like `rawResource`. */
  readonly rawExpiry: string;
  /** `se`, seconds since the Unix epoch. */
  readonly expiresAtS: number;
  /** `sig`, decoded to its 32 bytes. */
  readonly signature: Buffer;
  /** `skn`: the auth-rule claimed. */
  readonly keyName: string;
}

const refuse = (message: string): AppError<IdentityErrorCode> =>
  new AppError('ERR_IDENTITY_SAS_TOKEN', `SAS token: ${message}`);

const decoded = (name: string, raw: string): string => {
  try {
    return decodeURIComponent(raw);
  } catch {
    throw refuse(`${name} is not valid percent-encoding`);
  }
};

/**
 * Takes a token apart: fields in any order, unknown ones ignored, the prefix in any case.
 * @throws AppError ERR_IDENTITY_SAS_TOKEN when a field is missing, doubled or unreadable.
 */
export const parseSasToken = (text: string): SasToken => {
  if (text.length > MAX_SAS_TOKEN_LENGTH)
    throw refuse(`${text.length} characters, more than the limit of ${MAX_SAS_TOKEN_LENGTH}`);
  const trimmed = text.trim();
  const prefix = PREFIX.exec(trimmed);
  if (prefix === null) throw refuse('it does not begin with "SharedAccessSignature "');
  const fields = new Map<string, string>();
  for (const part of trimmed.slice(prefix[0].length).split('&')) {
    const at = part.indexOf('=');
    if (at <= 0) throw refuse('a part without "name=value"');
    const name = part.slice(0, at).toLowerCase();
    if (fields.has(name)) throw refuse(`field ${JSON.stringify(name.slice(0, 8))} is given twice`);
    fields.set(name, part.slice(at + 1));
  }
  const need = (name: string): string => {
    const value = fields.get(name);
    if (value === undefined || value === '') throw refuse(`field ${name} is missing`);
    return value;
  };
  const rawResource = need('sr');
  const rawExpiry = need('se');
  if (!EXPIRY.test(rawExpiry)) throw refuse('se is not a whole number of seconds');
  // A client that forgot to percent-encode its base64 leaves "+", which form decoders turn into a space.
  const signature = Buffer.from(decoded('sig', need('sig')).replaceAll(' ', '+'), 'base64');
  if (signature.length !== SIGNATURE_BYTES)
    throw refuse(`sig has ${signature.length} bytes, not ${SIGNATURE_BYTES}`);
  return {
    rawResource,
    resource: decoded('sr', rawResource),
    rawExpiry,
    expiresAtS: Number(rawExpiry),
    signature,
    keyName: decoded('skn', need('skn')),
  };
};

const sign = (rawResource: string, rawExpiry: string, keyText: string): Buffer =>
  createHmac('sha256', Buffer.from(keyText, 'utf8')).update(`${rawResource}\n${rawExpiry}`, 'utf8').digest();

/** Whether the key text signed the token, compared in constant time. Says nothing of expiry or resource. */
export const verifySasToken = (token: SasToken, keyText: string): boolean =>
  timingSafeEqual(sign(token.rawResource, token.rawExpiry, keyText), token.signature);

export interface SasTokenRequest {
  /** What it is for, e.g. `http://relay.example.com/orders`; percent-encoded here. */
  readonly resource: string;
  readonly keyName: string;
  /** Key text. A secret. */
  readonly key: string;
  /** Seconds since the Unix epoch; rounded down. */
  readonly expiresAtS: number;
}

/** Makes a token as Azure's clients do. The result is a secret until it expires. */
export const createSasToken = (request: SasTokenRequest): string => {
  const resource = encodeURIComponent(request.resource);
  const expiry = String(Math.floor(request.expiresAtS));
  const signature = encodeURIComponent(sign(resource, expiry, request.key).toString('base64'));
  return `SharedAccessSignature sr=${resource}&sig=${signature}&se=${expiry}&skn=${encodeURIComponent(request.keyName)}`;
};
