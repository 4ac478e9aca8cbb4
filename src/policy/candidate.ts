import type { EvaluationRequest } from './engine/messages.ts';
import type { EnginePool, EngineStats, EvaluationOutcome } from './engine/pool.ts';
import type { ActiveBundle, Decider } from './host-contract.ts';

/**
 * A bundle in an engine of its own that decides nothing: it is looked at before it is activated, or evaluated beside
 * the one that is. What it is asked waits as re-checks do.
 */
export class Candidate implements Decider {
  /** What it is; of its activation the members say when it was started, and beside which generation. */
  readonly active: ActiveBundle;
  readonly stale = undefined;
  /** Why its sequence alone would keep it from being activated; undefined when it would not. */
  readonly sequenceProblem: string | undefined;
  readonly #pool: EnginePool;
  readonly #isTrusted: () => boolean;

  constructor(
    active: ActiveBundle,
    pool: EnginePool,
    isTrusted: () => boolean,
    sequenceProblem: string | undefined,
  ) {
    this.active = active;
    this.#isTrusted = isTrusted;
    this.sequenceProblem = sequenceProblem;
    this.#pool = pool;
  }

  get generation(): number {
    return this.active.generation;
  }

  /** Whether the keys that count now vouch for it, as those did under which it was started. */
  get isTrusted(): boolean {
    return this.#isTrusted();
  }

  evaluate(request: EvaluationRequest, kind: string): Promise<EvaluationOutcome> {
    return this.#pool.evaluate(request, kind, 'recheck');
  }

  stats(): EngineStats {
    return this.#pool.stats();
  }

  /** Ends its threads and gives their memory back; what it is asked afterwards has no answer. */
  close(): Promise<void> {
    return this.#pool.close();
  }
}
