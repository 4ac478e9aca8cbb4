import type { Clock } from '../runtime/index.ts';

/** A node that has not heard its control database for this long admits nothing. */
export const FENCE_AFTER_MS = 15_000;
/** After this long it also cuts links whose agents hear no healthy node. */
export const CUT_AFTER_MS = 300_000;

export interface FenceOptions {
  readonly clock: Clock;
  /** Monotonic time of the last sign of the control database; -Infinity: none yet. */
  readonly lastHeardMonotonicMs: () => number;
  readonly fenceAfterMs?: number;
  readonly cutAfterMs?: number | 'never';
}

/** Says from the age of the last sign of the control database what this node may still do. */
export class Fence {
  readonly #clock: Clock;
  readonly #lastHeard: () => number;
  readonly #fenceAfterMs: number;
  readonly #cutAfterMs: number;

  constructor(options: FenceOptions) {
    this.#clock = options.clock;
    this.#lastHeard = options.lastHeardMonotonicMs;
    this.#fenceAfterMs = options.fenceAfterMs ?? FENCE_AFTER_MS;
    const cutAfterMs = options.cutAfterMs ?? CUT_AFTER_MS;
    this.#cutAfterMs = cutAfterMs === 'never' ? Number.POSITIVE_INFINITY : cutAfterMs;
  }

  /** Milliseconds since the control database was last heard. */
  get silentMs(): number {
    return this.#clock.monotonicMs() - this.#lastHeard();
  }

  /** False: no credential and no data link is admitted. */
  get admits(): boolean {
    return this.silentMs < this.#fenceAfterMs;
  }

  /** True: links are cut whose agents hear no healthy node either. */
  get cuts(): boolean {
    const { silentMs } = this;
    // A node that never heard its database has admitted nothing that it could cut.
    return Number.isFinite(silentMs) && silentMs >= this.#cutAfterMs;
  }
}
