import { createHash } from 'node:crypto';
import { randomBytes } from '../runtime/index.ts';

/** Entropy of a SAS key; its base64 text is what signs, as UTF-8. */
const KEY_BYTES = 32;
/** Hex digits of the SHA-256 of the key text that make its public id. */
const KEY_ID_HEX_DIGITS = 20;

/** The text of a new key: 32 random bytes as base64 (44 characters). */
export const newKeyText = (): string => randomBytes(KEY_BYTES).toString('base64');

/** The public id of a key: `k_` and the first 20 hex digits of the SHA-256 of its text. Reveals nothing of it. */
export const keyIdOf = (keyText: string): string =>
  `k_${createHash('sha256').update(keyText, 'utf8').digest('hex').slice(0, KEY_ID_HEX_DIGITS)}`;

const KEY_ID = /^k_[0-9a-f]{20}$/;

/** True for the form of a key id. */
export const isKeyId = (text: string): boolean => KEY_ID.test(text);
