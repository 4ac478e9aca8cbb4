import { createHash, timingSafeEqual } from 'node:crypto';

/** Longest name and password (RFC 1929 §2), bytes. */
export const MAX_CREDENTIAL_BYTES = 255;
/** Shortest password: no number of guesses finds a random one of this length, so that none has to be counted. */
export const MIN_PASSWORD_LENGTH = 16;
/** Users of one entrance. */
export const MAX_USERS = 64;

export interface User {
  readonly name: string;
  readonly password: string;
}

const digest = (bytes: Buffer | string): Buffer => createHash('sha256').update(bytes).digest();

/** The users of one entrance. */
export class Users {
  readonly #passwords: ReadonlyMap<string, Buffer>;

  constructor(users: readonly User[]) {
    this.#passwords = new Map(users.map(({ name, password }) => [name, digest(password)]));
  }

  /** The name of the user who may log in so; undefined when none may. Takes the same time for any password. */
  check(name: Buffer, password: Buffer): string | undefined {
    const text = name.toString('latin1');
    const expected = this.#passwords.get(text);
    const given = digest(password);
    return expected !== undefined && timingSafeEqual(expected, given) ? text : undefined;
  }
}
