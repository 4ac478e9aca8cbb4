import type { AuditLog, Subject } from '../audit/index.ts';
import type { Bounds, Candidate, Decision } from '../policy/index.ts';
import { type Clock, messageOf, type Timer } from '../runtime/index.ts';
import type { Decided } from './decided.ts';
import { compareDecisions, DIFFERENCE_WINDOW_MS, DifferenceWindow } from './shadow-difference.ts';
import { ShadowQueue } from './shadow-queue.ts';
import { type ShadowCounts, type ShadowResult, ShadowTally } from './shadow-tally.ts';

/** Counts go into the trail this often, when there are any. */
export const TALLY_PERIOD_MS = 5 * 60_000;
/** A bundle that gives no answer so often in a row gives none: it is ended. */
export const MAX_FAILURES_IN_A_ROW = 100;

export interface ShadowRunDeps {
  readonly audit: Pick<AuditLog, 'note'>;
  readonly clock: Clock;
  readonly subject: Subject;
  readonly bounds: () => Bounds;
  readonly onResult: (result: ShadowResult) => void;
  /** It gave no answer too often. */
  readonly onFailing: () => void;
}

/** One shadow bundle from its start to its end: evaluates, compares, counts, records differences. Enforces nothing. */
export class ShadowRun {
  readonly sinceMs: number;
  readonly #deps: ShadowRunDeps;
  readonly #candidate: Candidate;
  readonly #queue: ShadowQueue;
  readonly #tally = new ShadowTally();
  readonly #window = new DifferenceWindow();
  readonly #timers: readonly Timer[];
  #talliedMs: number;
  #failures = 0;
  #lastError: string | undefined;

  constructor(candidate: Candidate, deps: ShadowRunDeps) {
    const { clock, bounds } = deps;
    this.#deps = deps;
    this.#candidate = candidate;
    this.sinceMs = clock.nowMs();
    this.#talliedMs = clock.monotonicMs();
    this.#queue = new ShadowQueue({
      candidate,
      bounds,
      onEvaluated: (decided, shadow) => this.#evaluated(decided, shadow),
      onFailed: (error) => this.#failed(messageOf(error)),
      onDropped: () => this.#count('dropped'),
    });
    this.#timers = [
      clock.every(DIFFERENCE_WINDOW_MS, () => this.#release()).unref(),
      clock.every(TALLY_PERIOD_MS, () => this.#noteTally()).unref(),
    ];
  }

  get bundle(): Candidate['active'] {
    return this.#candidate.active;
  }

  get isTrusted(): boolean {
    return this.#candidate.isTrusted;
  }

  get counts(): ShadowCounts {
    return this.#tally.total();
  }

  get lastError(): string | undefined {
    return this.#lastError;
  }

  /** Looks at a decision later; only what the bundle in force answered can be compared. Never throws. */
  saw(decided: Decided): void {
    const { decided_by: by } = decided.decision;
    if (by === 'policy' || by === 'limit') this.#queue.add(decided);
  }

  /** Records what is left and gives the engine's memory back. */
  async end(reason: string): Promise<void> {
    for (const timer of this.#timers) timer.cancel();
    this.#queue.close();
    this.#release();
    this.#noteTally(reason);
    await this.#candidate.close();
  }

  #count(result: ShadowResult): void {
    this.#tally.add(result);
    this.#deps.onResult(result);
  }

  #evaluated(decided: Decided, shadow: Decision): void {
    const compared = compareDecisions(decided.decision, shadow);
    if (compared === 'error') {
      this.#failed(JSON.stringify(shadow.reasons[0]));
      return;
    }
    this.#failures = 0;
    this.#tally.add('evaluated');
    this.#count(compared);
    if (compared === 'same' || compared === 'otherwise') return;
    const event = this.#window.admit(decided, shadow, compared);
    if (event === 'unwritten') this.#tally.add('unwritten');
    else if (event !== 'counted') this.#deps.audit.note(event);
  }

  #failed(detail: string): void {
    this.#lastError = detail;
    this.#tally.add('evaluated');
    this.#count('errors');
    this.#failures += 1;
    if (this.#failures === MAX_FAILURES_IN_A_ROW) this.#deps.onFailing();
  }

  #release(): void {
    for (const event of this.#window.release()) this.#deps.audit.note(event);
  }

  #noteTally(reason?: string): void {
    const { audit, clock, subject } = this.#deps;
    const tally = this.#tally.take();
    const nowMs = clock.monotonicMs();
    const intervalMs = Math.round(nowMs - this.#talliedMs);
    this.#talliedMs = nowMs;
    if (tally === undefined && reason === undefined) return;
    const { sha256, revision, sequence } = this.bundle;
    audit.note({
      type: 'policy.shadow',
      subject,
      data: {
        shadow: true,
        bundle: { sha256, revision, sequence },
        ...(tally === undefined ? {} : { tally }),
        ...(reason === undefined ? {} : { reason }),
        interval_ms: intervalMs,
      },
    });
  }
}
