import { randomBytes } from '../../runtime/index.ts';
import type { Side } from '../link/offer.ts';

/** How long an offer's tokens are good. */
export const OFFER_LIFE_MS = 15_000;
const TOKEN_BYTES = 16;

interface Entry<Link> {
  readonly link: Link;
  readonly side: Side;
}

/** Single-use rendezvous tokens: each names one side of one link until it is taken or withdrawn. */
export class TokenBook<Link> {
  readonly #entries = new Map<string, Entry<Link>>();

  get size(): number {
    return this.#entries.size;
  }

  /** A fresh token of 128 random bits, 32 hex digits. */
  issue(link: Link, side: Side): string {
    const token = randomBytes(TOKEN_BYTES).toString('hex');
    this.#entries.set(token, { link, side });
    return token;
  }

  /** For which side a token is good; undefined when for none. It stays good. */
  sideOf(token: string): Side | undefined {
    return this.#entries.get(token)?.side;
  }

  /** Whose token it is; it works no second time. */
  take(token: string): Entry<Link> | undefined {
    const entry = this.#entries.get(token);
    if (entry !== undefined) this.#entries.delete(token);
    return entry;
  }

  withdraw(token: string): void {
    this.#entries.delete(token);
  }
}
