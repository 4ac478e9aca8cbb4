import { createCipheriv, createDecipheriv, createHash, pbkdf2Sync, randomBytes } from 'node:crypto';

// The server's side of O5LOGON with a verifier of 12c. The password never goes by in the clear, and each side proves to the
// other that it knows it: what is worth carrying unchanged.

export const VERIFIER_12C = 18_453;
const KEY_BYTES = 32;
const SALT_BYTES = 16;
/** Rounds for the verifier, and for the key of the session. */
const VERIFIER_ROUNDS = 4096;
const SESSION_ROUNDS = 3;

const hex = (value: Buffer): string => value.toString('hex').toUpperCase();

const encrypt = (key: Buffer, plain: Buffer, padded: boolean): Buffer => {
  const cipher = createCipheriv('aes-256-cbc', key, Buffer.alloc(16)).setAutoPadding(padded);
  return Buffer.concat([cipher.update(plain), cipher.final()]);
};

const decrypt = (key: Buffer, text: string, padded: boolean): Buffer => {
  const decipher = createDecipheriv('aes-256-cbc', key, Buffer.alloc(16)).setAutoPadding(padded);
  return Buffer.concat([decipher.update(text, 'hex'), decipher.final()]);
};

/** What one client is challenged with, and what it makes of it. */
export class Challenge {
  readonly #password: string;
  readonly #salt = randomBytes(SALT_BYTES);
  readonly #sessionSalt = randomBytes(SALT_BYTES);
  readonly #ours = randomBytes(KEY_BYTES);
  readonly #verifier: Buffer;

  constructor(password: string) {
    this.#password = password;
    const salt = Buffer.concat([this.#salt, Buffer.from('AUTH_PBKDF2_SPEEDY_KEY')]);
    const derived = pbkdf2Sync(password, salt, VERIFIER_ROUNDS, 64, 'sha512');
    this.#verifier = createHash('sha512').update(derived).update(this.#salt).digest().subarray(0, KEY_BYTES);
  }

  /** What the first answer tells, with the flags of each. */
  get told(): readonly (readonly [key: string, value: string, flags: number])[] {
    return [
      ['AUTH_SESSKEY', hex(encrypt(this.#verifier, this.#ours, false)), 0],
      ['AUTH_VFR_DATA', hex(this.#salt), VERIFIER_12C],
      ['AUTH_PBKDF2_CSK_SALT', hex(this.#sessionSalt), 0],
      ['AUTH_PBKDF2_VGEN_COUNT', String(VERIFIER_ROUNDS), 0],
      ['AUTH_PBKDF2_SDER_COUNT', String(SESSION_ROUNDS), 0],
    ];
  }

  /** The proof for a client that knows the password; undefined for one that does not. */
  answer(sessionKey: string, password: string): string | undefined {
    const theirs = decrypt(this.#verifier, sessionKey, false).subarray(0, KEY_BYTES);
    const both = Buffer.concat([theirs, this.#ours]);
    const key = pbkdf2Sync(hex(both), this.#sessionSalt, SESSION_ROUNDS, KEY_BYTES, 'sha512');
    try {
      const plain = decrypt(key, password, true).subarray(SALT_BYTES).toString('utf8');
      if (plain !== this.#password) return undefined;
    } catch {
      // Of another key: the padding is none.
      return undefined;
    }
    return hex(encrypt(key, Buffer.concat([randomBytes(SALT_BYTES), Buffer.from('SERVER_TO_CLIENT')]), true));
  }
}
