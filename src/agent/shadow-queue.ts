import { type Bounds, type Candidate, type Decision, decideWithin } from '../policy/index.ts';
import type { Decided } from './decided.ts';
import { limited } from './opening.ts';

/** Decisions that wait for the shadow bundle; of more than that the newest are dropped. */
export const SHADOW_QUEUE = 1_024;
/** Of these so many are with its engine at a time, and so many are handed over in one turn of the event loop. */
const IN_FLIGHT = 16;

export interface ShadowQueueDeps {
  readonly candidate: Candidate;
  readonly bounds: () => Bounds;
  readonly onEvaluated: (decided: Decided, shadow: Decision) => void;
  /** What could not even be asked. */
  readonly onFailed: (error: unknown) => void;
  readonly onDropped: () => void;
}

/** Decisions on their way through the shadow bundle's engine, never in the tick that they were made in. */
export class ShadowQueue {
  readonly #deps: ShadowQueueDeps;
  #waiting: Decided[] = [];
  #inFlight = 0;
  #scheduled = false;
  #closed = false;

  constructor(deps: ShadowQueueDeps) {
    this.#deps = deps;
  }

  /** Never throws and never waits. */
  add(decided: Decided): void {
    if (this.#closed) return;
    if (this.#waiting.length >= SHADOW_QUEUE) {
      this.#deps.onDropped();
      return;
    }
    this.#waiting.push(decided);
    this.#schedule();
  }

  /** What waits is forgotten, what is under way is not told any more. */
  close(): void {
    this.#closed = true;
    this.#waiting = [];
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed || this.#inFlight >= IN_FLIGHT || this.#waiting.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      for (const decided of this.#waiting.splice(0, IN_FLIGHT - this.#inFlight)) void this.#evaluate(decided);
    });
  }

  async #evaluate(decided: Decided): Promise<void> {
    const { candidate, bounds, onEvaluated, onFailed } = this.#deps;
    const { base } = decided;
    this.#inFlight += 1;
    try {
      const decision = await decideWithin(candidate, base, bounds(), 'open');
      const { principal } = base.usage;
      const shadow = principal === undefined ? decision : limited(decision, { ...base.usage, principal });
      if (!this.#closed) onEvaluated(decided, shadow);
    } catch (error) {
      if (!this.#closed) onFailed(error);
    } finally {
      this.#inFlight -= 1;
      this.#schedule();
    }
  }
}
