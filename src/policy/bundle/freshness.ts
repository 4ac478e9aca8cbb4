import type { Clock, Timer } from '../../runtime/index.ts';

/** How old the word is that the active bundle is still the one to use. */
export interface FreshnessStatus {
  /** Since its source last confirmed the bundle, milliseconds; undefined when it never did. */
  readonly ageMs: number | undefined;
  /** Beyond this everything is denied; undefined when there is no such limit. */
  readonly maxAgeMs: number | undefined;
  readonly isStale: boolean;
}

/** Longest timer of Node; a later flip is looked for again after it. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Watches the time since the source of a bundle was last heard. With a limit it begins stale, and is so again when the
 * source has been silent for longer; by the monotonic clock, so that a stepping wall clock neither denies nor allows.
 */
export class Freshness {
  readonly #clock: Clock;
  readonly #maxAgeMs: number | undefined;
  readonly #onFlip: () => void;
  /** Monotonic clock of the last confirmation. */
  #confirmedMs: number | undefined;
  #timer: Timer | undefined;
  #wasStale: boolean;

  constructor(clock: Clock, maxAgeMs: number | undefined, onFlip: () => void) {
    this.#clock = clock;
    this.#maxAgeMs = maxAgeMs;
    this.#onFlip = onFlip;
    this.#wasStale = this.isStale;
  }

  get ageMs(): number | undefined {
    return this.#confirmedMs === undefined ? undefined : this.#clock.monotonicMs() - this.#confirmedMs;
  }

  get isStale(): boolean {
    return this.#maxAgeMs !== undefined && (this.ageMs ?? Number.POSITIVE_INFINITY) > this.#maxAgeMs;
  }

  status(): FreshnessStatus {
    return { ageMs: this.ageMs, maxAgeMs: this.#maxAgeMs, isStale: this.isStale };
  }

  /** The source confirmed the bundle `agoMs` ago. */
  confirm(agoMs = 0): void {
    this.#confirmedMs = this.#clock.monotonicMs() - Math.max(0, agoMs);
    this.#look();
  }

  close(): void {
    this.#timer?.cancel();
  }

  #look(): void {
    this.#timer?.cancel();
    if (this.#maxAgeMs !== undefined && !this.isStale) {
      // One more than what is left, because exactly the limit is not over it.
      const leftMs = this.#maxAgeMs - (this.ageMs ?? 0) + 1;
      this.#timer = this.#clock.after(Math.min(leftMs, MAX_TIMER_MS), () => this.#look()).unref();
    }
    if (this.isStale === this.#wasStale) return;
    this.#wasStale = this.isStale;
    this.#onFlip();
  }
}
