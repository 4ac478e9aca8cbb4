import { AppError, type Clock, type Timer } from '../../runtime/index.ts';
import type { Verdict } from '../decision.ts';
import type { PolicyErrorCode } from '../errors.ts';
import { Breaker } from './breaker.ts';
import { Evaluator } from './evaluator.ts';
import type { EngineProgram, EvaluationRequest, WorkerMessage, WorkerOutcome } from './messages.ts';

/** An evaluation that runs longer, by the worker's own stamp, is denied and its thread replaced. */
export const EVALUATION_BUDGET_MS = 100;
/**
 * The same for threads that give way to everything else: on a busy machine they are stopped for longer than the budget
 * without having used it, and nobody waits for them.
 */
export const BACKGROUND_BUDGET_MS = 2_000;
/** A decision slower than this is counted as slow. */
export const SLOW_EVALUATION_MS = 25;
/** An open that waits longer for an evaluator is denied. */
export const OPEN_WAIT_MS = 250;
/** Re-checks run behind opens and may wait this long. */
export const RECHECK_WAIT_MS = 10_000;
const MIN_EVALUATORS = 2;
/** One ready thread that takes over at once when another is lost. */
const SPARE_EVALUATORS = 1;
/** Most decisions in one message: about 1.5 ms of work at 45 µs each. */
const OPEN_BATCH = 32;
/** Smaller, so that an open never waits long behind re-checks. */
const RECHECK_BATCH = 16;
/** A decision that lost its evaluator through no fault of its own is evaluated again this often. */
const MAX_RETRIES = 2;
const WATCH_PERIOD_MS = 10;
/**
 * Most that one look at a running evaluation counts against its budget. On a machine that gives this process no
 * time, the watch is late as well, and a stamp alone would deny what never had a chance to run.
 */
const MAX_LOOK_MS = 2 * WATCH_PERIOD_MS;
/** When one evaluation takes this long, what shares its batch is given to another evaluator as well. */
const SHARE_AFTER_MS = 10;
/** Pause before a thread is replaced that ended before it was ready. */
const RESTART_DELAY_MS = 500;
/** A policy whose instance is not ready after this is given up: three times what `policy build` lets a start take. */
export const START_LIMIT_MS = 30_000;
const US_PER_MS = 1_000;

export type Lane = 'open' | 'recheck';

export type EvaluationOutcome =
  | { readonly kind: 'verdicts'; readonly verdicts: readonly Verdict[]; readonly evalUs: number }
  | {
      readonly kind: 'failed';
      readonly reason: 'policy_error' | 'policy_timeout' | 'policy_overload';
      readonly detail: string;
      readonly evalUs: number;
    };

export interface EngineStats {
  readonly evaluators: number;
  readonly queued: number;
  readonly evaluated: number;
  readonly errors: number;
  readonly timeouts: number;
  readonly overloads: number;
  readonly slow: number;
  /** Threads lost or terminated. */
  readonly replaced: number;
  /** Instances thrown away after a throw. */
  readonly discarded: number;
}

export interface EnginePoolOptions {
  readonly clock: Clock;
  /** Evaluators working at a time, at least two; one spare comes on top. */
  readonly workers?: number;
  readonly budgetMs?: number;
  readonly openWaitMs?: number;
  /** Threads that give way to everything else: for what nobody waits for. */
  readonly isBackground?: boolean;
  /** Longest start of an instance, by default `START_LIMIT_MS`. */
  readonly startLimitMs?: number;
  /** Called once each time a kind of stream fails repeatedly. */
  readonly onAlarm?: (key: string, failures: number) => void;
}

interface Job {
  readonly request: EvaluationRequest;
  readonly key: string;
  readonly lane: Lane;
  queuedMs: number;
  retries: number;
  settled: boolean;
  readonly resolve: (outcome: EvaluationOutcome) => void;
}

interface Slot {
  readonly evaluator: Evaluator;
  batch: Job[];
  wasReady: boolean;
  /** Ends a start that does not. */
  startLimit: Timer | undefined;
  /** The rest of its batch was given to others, who answer it or have answered it. */
  shared: boolean;
  /** Which of its batch the watch saw running last, and for how long it has been seen. */
  seenIndex: number;
  seenMs: number;
}

interface Opening {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * Worker threads that run one policy. The event loop never does: it sends batches, one message each way per
 * loop turn, and watches the stamps that the workers write.
 */
export class EnginePool {
  readonly #program: EngineProgram;
  readonly #clock: Clock;
  readonly #size: number;
  readonly #budgetMs: number;
  readonly #openWaitMs: number;
  readonly #isBackground: boolean;
  readonly #startLimitMs: number;
  readonly #breaker: Breaker;
  readonly #slots = new Set<Slot>();
  readonly #restarts = new Set<Timer>();
  #opens: Job[] = [];
  #rechecks: Job[] = [];
  #flushing = false;
  #watch: Timer | undefined;
  #lookedMs = 0;
  #closed = false;
  #opening: Opening | undefined;
  readonly #counts = {
    evaluated: 0,
    errors: 0,
    timeouts: 0,
    overloads: 0,
    slow: 0,
    replaced: 0,
    discarded: 0,
  };

  private constructor(program: EngineProgram, options: EnginePoolOptions) {
    this.#program = program;
    this.#clock = options.clock;
    this.#size = Math.max(MIN_EVALUATORS, options.workers ?? MIN_EVALUATORS);
    this.#openWaitMs = options.openWaitMs ?? OPEN_WAIT_MS;
    this.#isBackground = options.isBackground ?? false;
    this.#budgetMs = options.budgetMs ?? (this.#isBackground ? BACKGROUND_BUDGET_MS : EVALUATION_BUDGET_MS);
    this.#startLimitMs = options.startLimitMs ?? START_LIMIT_MS;
    this.#breaker = new Breaker(options.clock, options.onAlarm ?? (() => undefined));
  }

  /**
   * Starts the threads; resolves when all but the spare are ready.
   * @throws AppError ERR_POLICY_BUILTIN, ERR_POLICY_ENGINE when the program cannot be instantiated, ERR_POLICY_START when
   * that does not end
   */
  static async open(program: EngineProgram, options: EnginePoolOptions): Promise<EnginePool> {
    const pool = new EnginePool(program, options);
    try {
      await new Promise<void>((resolve, reject) => {
        pool.#opening = { resolve, reject };
        while (pool.#slots.size < pool.#size) pool.#add();
      });
    } catch (error) {
      await pool.close();
      throw error;
    }
    while (pool.#slots.size < pool.#size + SPARE_EVALUATORS) pool.#add();
    return pool;
  }

  /**
   * Evaluates one request; never rejects.
   * @param key kind of stream, to which failures are attributed
   */
  evaluate(request: EvaluationRequest, key: string, lane: Lane): Promise<EvaluationOutcome> {
    if (this.#closed) return Promise.resolve(this.#failure('policy_error', 'engine is closed'));
    if (this.#breaker.isOpen(key)) {
      this.#counts.errors += 1;
      return Promise.resolve(this.#failure('policy_error', 'breaker is open after repeated failures'));
    }
    return new Promise((resolve) => {
      const job: Job = {
        request,
        key,
        lane,
        queuedMs: this.#clock.monotonicMs(),
        retries: 0,
        settled: false,
        resolve,
      };
      (lane === 'open' ? this.#opens : this.#rechecks).push(job);
      this.#schedule();
    });
  }

  stats(): EngineStats {
    const ready = [...this.#slots].filter(({ evaluator }) => evaluator.state !== 'starting').length;
    return { ...this.#counts, evaluators: ready, queued: this.#opens.length + this.#rechecks.length };
  }

  /** The evaluators, for fault tests. */
  get evaluators(): readonly Evaluator[] {
    return [...this.#slots].map(({ evaluator }) => evaluator);
  }

  /** Ends the threads; whatever is waiting is answered `policy_error`. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#watch?.cancel();
    for (const restart of this.#restarts) restart.cancel();
    const slots = [...this.#slots];
    this.#slots.clear();
    const waiting = [...slots.flatMap(({ batch }) => batch), ...this.#opens, ...this.#rechecks];
    this.#opens = [];
    this.#rechecks = [];
    for (const job of waiting) this.#settle(job, this.#failure('policy_error', 'engine was closed'));
    for (const { startLimit } of slots) startLimit?.cancel();
    await Promise.all(slots.map(({ evaluator }) => evaluator.terminate()));
  }

  /** True while something is queued or under way: a replaced pool is closed only when it no longer is. */
  get busy(): boolean {
    return (
      this.#opens.length + this.#rechecks.length > 0 ||
      [...this.#slots].some(({ evaluator }) => evaluator.state === 'busy')
    );
  }

  #failure(
    reason: 'policy_error' | 'policy_timeout' | 'policy_overload',
    detail: string,
    evalUs = 0,
  ): EvaluationOutcome {
    return { kind: 'failed', reason, detail, evalUs };
  }

  #add(): void {
    if (this.#closed) return;
    const slot: Slot = {
      batch: [],
      wasReady: false,
      startLimit: undefined,
      shared: false,
      seenIndex: -1,
      seenMs: 0,
      evaluator: new Evaluator(
        this.#program,
        {
          onStarting: () => {
            slot.startLimit?.cancel();
            slot.startLimit = this.#clock.after(this.#startLimitMs, () => this.#startedTooLong(slot)).unref();
          },
          onReady: () => {
            slot.startLimit?.cancel();
            slot.wasReady = true;
            slot.evaluator.rest();
            this.#opened();
            this.#schedule();
          },
          onFailed: (message) => this.#startFailed(slot, message),
          onDone: (message) => this.#done(slot, message),
          onLost: (index) => this.#lost(slot, index, 'policy_error', 'evaluator was lost'),
        },
        this.#isBackground,
      ),
    };
    this.#slots.add(slot);
  }

  #opened(): void {
    if (this.#opening === undefined || ![...this.#slots].every(({ wasReady }) => wasReady)) return;
    this.#opening.resolve();
    this.#opening = undefined;
  }

  #startedTooLong(slot: Slot): void {
    const detail = `the policy's instance is not ready after ${String(this.#startLimitMs)} ms`;
    this.#startFailed(slot, { code: 'ERR_POLICY_START', detail });
  }

  #startFailed(slot: Slot, { code, detail }: { readonly code: PolicyErrorCode; detail: string }): void {
    slot.startLimit?.cancel();
    const error = new AppError<PolicyErrorCode>(code, detail);
    if (this.#opening !== undefined) {
      this.#opening.reject(error);
      this.#opening = undefined;
      return;
    }
    this.#slots.delete(slot);
    void slot.evaluator.terminate();
    this.#restartLater();
  }

  #restartLater(): void {
    const timer = this.#clock.after(RESTART_DELAY_MS, () => {
      this.#restarts.delete(timer);
      this.#add();
    });
    this.#restarts.add(timer.unref());
  }

  #schedule(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#opens.length + this.#rechecks.length === 0 || this.#closed) return;
    this.#expire();
    const slots = [...this.#slots];
    let working = slots.filter(({ evaluator }) => evaluator.state === 'busy').length;
    for (const slot of slots) {
      if (working >= this.#size) break;
      if (slot.evaluator.state !== 'idle') continue;
      const batch = this.#takeBatch();
      if (batch.length === 0) break;
      working += 1;
      slot.batch = batch;
      slot.shared = false;
      slot.seenIndex = -1;
      slot.evaluator.run(batch.map(({ request }) => request));
    }
    this.#startWatch();
  }

  /**
   * A kind of stream that failed recently is evaluated alone, one at a time, never in others' company, and never
   * by the only thread that is ready, which the others would have to wait for.
   */
  #takeBatch(): Job[] {
    const slots = [...this.#slots];
    const noSuspects =
      slots.filter(({ evaluator }) => evaluator.state !== 'starting').length < MIN_EVALUATORS ||
      slots.some(({ batch }) => batch.some(({ key }) => this.#breaker.isSuspect(key)));
    const waiting = this.#rechecks.length > 0 ? 1 : 0;
    const batch = this.#take(this.#opens, OPEN_BATCH - waiting, noSuspects);
    if (batch.some(({ key }) => this.#breaker.isSuspect(key))) return batch;
    const room = batch.length > 0 ? waiting : this.#mayRecheck(slots) ? RECHECK_BATCH : 0;
    return [...batch, ...this.#take(this.#rechecks, room, noSuspects || batch.length > 0)];
  }

  /** Re-checks alone keep half of the evaluators busy at most: a whole core is left to opens and to moving bytes. */
  #mayRecheck(slots: readonly Slot[]): boolean {
    if (this.#isBackground) return true;
    const busy = slots.filter(({ batch: [first], shared }) => first?.lane === 'recheck' && !shared).length;
    return busy < Math.floor(this.#size / 2);
  }

  #take(queue: Job[], limit: number, noSuspects: boolean): Job[] {
    if (!this.#breaker.hasFailures) return queue.splice(0, limit);
    const taken: Job[] = [];
    let at = 0;
    while (at < queue.length && taken.length < limit) {
      const job = queue[at];
      if (job === undefined) break;
      if (!this.#breaker.isSuspect(job.key)) taken.push(...queue.splice(at, 1));
      else if (!noSuspects && taken.length === 0) return queue.splice(at, 1);
      else at += 1;
    }
    return taken;
  }

  #expire(): void {
    const nowMs = this.#clock.monotonicMs();
    const keep =
      (limitMs: number) =>
      (job: Job): boolean => {
        if (nowMs - job.queuedMs <= limitMs) return true;
        this.#counts.overloads += 1;
        job.resolve(this.#failure('policy_overload', `waited over ${String(limitMs)} ms for an evaluator`));
        return false;
      };
    const oldest = (queue: readonly Job[]): number => queue[0]?.queuedMs ?? nowMs;
    if (nowMs - oldest(this.#opens) > this.#openWaitMs) {
      this.#opens = this.#opens.filter(keep(this.#openWaitMs));
    }
    if (nowMs - oldest(this.#rechecks) > RECHECK_WAIT_MS) {
      this.#rechecks = this.#rechecks.filter(keep(RECHECK_WAIT_MS));
    }
  }

  #startWatch(): void {
    if (this.#watch !== undefined || this.#closed) return;
    this.#lookedMs = this.#clock.monotonicMs();
    this.#watch = this.#clock.every(WATCH_PERIOD_MS, () => this.#check());
  }

  #check(): void {
    this.#expire();
    const nowMs = this.#clock.monotonicMs();
    const lookMs = Math.min(nowMs - this.#lookedMs, MAX_LOOK_MS);
    this.#lookedMs = nowMs;
    for (const slot of [...this.#slots]) {
      const running = slot.batch.length === 0 ? undefined : slot.evaluator.running();
      if (running === undefined) continue;
      if (running.elapsedMs >= SHARE_AFTER_MS && !slot.shared) this.#share(slot, running.index);
      if (slot.seenIndex !== running.index) {
        slot.seenIndex = running.index;
        slot.seenMs = 0;
      }
      slot.seenMs += Math.min(lookMs, running.elapsedMs);
      if (running.elapsedMs <= this.#budgetMs || slot.seenMs <= this.#budgetMs) continue;
      void slot.evaluator.terminate();
      const detail = `evaluation ran over ${String(this.#budgetMs)} ms`;
      this.#lost(slot, running.index, 'policy_timeout', detail);
    }
    if (!this.busy) {
      this.#watch?.cancel();
      this.#watch = undefined;
    }
  }

  /** Whoever answers first counts: evaluation has no side effects, so a second one is harmless. */
  #share(slot: Slot, index: number): void {
    slot.shared = true;
    const others = slot.batch.filter((job, at) => at !== index && !job.settled);
    if (others.length === 0) return;
    this.#toFront(others);
    this.#schedule();
  }

  #settle(job: Job, outcome: EvaluationOutcome): void {
    job.settled = true;
    job.resolve(outcome);
  }

  #done(slot: Slot, message: Extract<WorkerMessage, { kind: 'done' }>): void {
    const { batch } = slot;
    slot.batch = [];
    slot.evaluator.rest();
    if (message.spoiled) this.#counts.discarded += 1;
    message.outcomes.forEach((text, index) => {
      const job = batch[index];
      if (job !== undefined) this.#answer(job, JSON.parse(text) as WorkerOutcome);
    });
    if (!slot.shared) this.#requeue(batch.slice(message.outcomes.length));
    if (this.#opens.length + this.#rechecks.length > 0) this.#flush();
  }

  #answer(job: Job, outcome: WorkerOutcome): void {
    if (job.settled) return;
    this.#counts.evaluated += 1;
    if (outcome.evalUs > SLOW_EVALUATION_MS * US_PER_MS) this.#counts.slow += 1;
    if (outcome.kind === 'verdicts') {
      this.#settle(job, { ...outcome, verdicts: outcome.verdicts as readonly Verdict[] });
      return;
    }
    this.#counts.errors += 1;
    this.#breaker.failed(job.key);
    this.#settle(job, this.#failure('policy_error', outcome.detail, outcome.evalUs));
  }

  #lost(slot: Slot, index: number, reason: 'policy_error' | 'policy_timeout', detail: string): void {
    this.#slots.delete(slot);
    slot.startLimit?.cancel();
    if (this.#opening !== undefined) {
      this.#opening.reject(
        new AppError<PolicyErrorCode>('ERR_POLICY_ENGINE', 'the evaluator ended at start'),
      );
      this.#opening = undefined;
      return;
    }
    this.#counts.replaced += 1;
    if (slot.wasReady) this.#add();
    else this.#restartLater();
    const { batch } = slot;
    slot.batch = [];
    const culprit = batch[index];
    if (culprit !== undefined) {
      if (reason === 'policy_timeout') this.#counts.timeouts += 1;
      else this.#counts.errors += 1;
      this.#breaker.failed(culprit.key);
      this.#settle(culprit, this.#failure(reason, detail, this.#budgetMs * US_PER_MS));
    }
    if (!slot.shared) this.#requeue(batch.filter((job) => job !== culprit));
    this.#schedule();
  }

  /** What an evaluator did not get to goes back to the front, in order. */
  #requeue(jobs: readonly Job[]): void {
    const again = jobs.filter((job) => {
      if (job.settled) return false;
      job.retries += 1;
      if (job.retries <= MAX_RETRIES) return true;
      this.#counts.errors += 1;
      this.#settle(job, this.#failure('policy_error', 'evaluators were lost repeatedly'));
      return false;
    });
    this.#toFront(again);
  }

  #toFront(jobs: readonly Job[]): void {
    for (const job of jobs) job.queuedMs = this.#clock.monotonicMs();
    this.#opens.unshift(...jobs.filter(({ lane }) => lane === 'open'));
    this.#rechecks.unshift(...jobs.filter(({ lane }) => lane === 'recheck'));
  }
}
