import type { Clock } from '../../runtime/index.ts';
import { IDLE_FRAMES_BURST, IDLE_FRAMES_PER_SECOND } from './constants.ts';

/** Bounds the count of frames that change nothing; bytes are bounded by credit, these by nothing else. */
export class IdleFrames {
  readonly #clock: Clock;
  #left = IDLE_FRAMES_BURST;
  #filledMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#filledMs = clock.monotonicMs();
  }

  /** Counts one; false when the peer has sent too many. */
  allow(): boolean {
    if (this.#left >= 1) {
      this.#left -= 1;
      return true;
    }
    const nowMs = this.#clock.monotonicMs();
    const refill = ((nowMs - this.#filledMs) / 1000) * IDLE_FRAMES_PER_SECOND;
    this.#filledMs = nowMs;
    this.#left = Math.min(IDLE_FRAMES_BURST, refill);
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
