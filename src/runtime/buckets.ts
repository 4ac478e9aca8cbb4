import type { Clock } from './clock.ts';

interface Bucket {
  tokens: number;
  atMs: number;
}

/** Token buckets by key, bounded in number: the one used longest ago makes room. */
export class Buckets {
  readonly #clock: Clock;
  readonly #burst: number;
  readonly #perSecond: number;
  readonly #most: number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(clock: Clock, settings: { burst: number; perSecond: number; mostBuckets: number }) {
    this.#clock = clock;
    this.#burst = settings.burst;
    this.#perSecond = settings.perSecond;
    this.#most = settings.mostBuckets;
  }

  /** Takes one token; false when there is none. */
  take(key: string): boolean {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#buckets.get(key);
    const bucket = known ?? { tokens: this.#burst, atMs: nowMs };
    this.#buckets.delete(key);
    bucket.tokens = Math.min(this.#burst, bucket.tokens + ((nowMs - bucket.atMs) / 1000) * this.#perSecond);
    bucket.atMs = nowMs;
    if (known === undefined && this.#buckets.size >= this.#most) {
      const oldest = this.#buckets.keys().next();
      if (oldest.done !== true) this.#buckets.delete(oldest.value);
    }
    this.#buckets.set(key, bucket);
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  /** Seconds until the bucket has a token again, at least 1. */
  get retryAfterS(): number {
    return Math.max(1, Math.ceil(1 / this.#perSecond));
  }
}
