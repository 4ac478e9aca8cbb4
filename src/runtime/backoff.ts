import { randomFraction } from './random.ts';

/** Three quick tries are spread over this time before backing off (protocol.md, Liveness). */
const QUICK_TRIES = 3;
const QUICK_SPREAD_MS = 2_000;
const FIRST_DELAY_MS = 1_000;
/** The longest pause between two tries. */
export const BACKOFF_CAP_MS = 20_000;

/** Delays between reconnects: three quick tries over 2 s, then 1 s doubling to 20 s, full jitter. */
export class Backoff {
  readonly #random: () => number;
  #tries = 0;

  constructor(random: () => number = randomFraction) {
    this.#random = random;
  }

  /** The pause before the next try, in milliseconds. */
  nextDelayMs(): number {
    const index = this.#tries;
    this.#tries += 1;
    if (index < QUICK_TRIES) return (this.#random() * QUICK_SPREAD_MS) / QUICK_TRIES;
    const ceiling = Math.min(BACKOFF_CAP_MS, FIRST_DELAY_MS * 2 ** (index - QUICK_TRIES));
    return this.#random() * ceiling;
  }

  /** The pause after a refusal that will not change by itself (401, 403): straight to the cap. */
  capDelayMs(): number {
    this.#tries = Math.max(this.#tries, QUICK_TRIES);
    return BACKOFF_CAP_MS / 2 + (this.#random() * BACKOFF_CAP_MS) / 2;
  }

  /** To be called only after a grace period of a working connection. */
  reset(): void {
    this.#tries = 0;
  }
}
