import { createHash, timingSafeEqual } from 'node:crypto';
import { randomBytes } from '../runtime/index.ts';

/** Roles of a management token: auditor reads, operator changes, owner also discloses and grants. */
export const ROLES = ['auditor', 'operator', 'owner'] as const;

export type Role = (typeof ROLES)[number];

/** Whether a role has at least the rights of another. */
export const roleAtLeast = (role: Role, wanted: Role): boolean =>
  ROLES.indexOf(role) >= ROLES.indexOf(wanted);

const ID_BYTES = 8;
const SECRET_BYTES = 32;
const TOKEN = /^([tc]_[0-9a-f]{16})\.([A-Za-z0-9_-]{43})$/;
const TOKEN_ID = /^[tc]_[0-9a-f]{16}$/;

/** A new management token: its public id, its text (a secret, shown once), and the digest that is stored. */
export interface NewManagementToken {
  readonly id: string;
  readonly text: string;
  readonly secretDigest: Buffer;
}

// One SHA-256 and no slow hash: the secret has 256 bits of entropy, nothing can be guessed.
const digestOf = (secret: string): Buffer => createHash('sha256').update(secret, 'utf8').digest();

/** `t` begins a token's id, `c` that of a one-time code. */
export const newManagementToken = (kind: 't' | 'c' = 't'): NewManagementToken => {
  const id = `${kind}_${randomBytes(ID_BYTES).toString('hex')}`;
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  return { id, text: `${id}.${secret}`, secretDigest: digestOf(secret) };
};

/** The id that a token's text claims, with a check of its secret; undefined when it is not of the form. */
export const parseManagementToken = (
  text: string,
): { readonly id: string; matches(secretDigest: Uint8Array): boolean } | undefined => {
  const match = TOKEN.exec(text);
  const [, id, secret] = match ?? [];
  if (id === undefined || secret === undefined) return undefined;
  const digest = digestOf(secret);
  return {
    id,
    matches: (stored) => stored.length === digest.length && timingSafeEqual(stored, digest),
  };
};

/** True for the form of a one-time code: it must be exchanged for a token. */
export const isOneTimeCode = (text: string): boolean => text.startsWith('c_') && TOKEN.test(text);

/** True for the form of the public id of a management token or a one-time code. */
export const isManagementTokenId = (text: string): boolean => TOKEN_ID.test(text);
