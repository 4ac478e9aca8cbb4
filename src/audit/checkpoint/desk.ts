import { type Clock, type Logger, messageOf } from '../../runtime/index.ts';
import { checkpointLine } from './checkpoint.ts';
import { type StoreOutcome, storeCheckpoint } from './checkpoint-store.ts';
import type { Place } from './place.ts';
import type { CheckpointFacts, Series } from './series.ts';

/** How it stands with the checkpoints of one place. */
export interface CheckpointHealth {
  readonly place: Place['name'];
  /** Since the place took one, seconds; null before it took any since the process started. */
  readonly age_seconds: number | null;
  /** Rounds since the process started in which it took none. */
  readonly failures: number;
  /** Why it took none at the last round. */
  readonly error?: string;
  /** Why the database did not store the last one that it was asked to. */
  readonly database_error?: string;
}

export interface DeskOptions {
  readonly place: Place;
  readonly series: Series;
  /** Undefined: nothing is stored. */
  readonly databaseUrl: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

const WHY: Readonly<Record<Exclude<StoreOutcome, 'stored' | 'acknowledged'>, string>> = {
  not_owner: 'the database holds no chain of this login under this audit key',
  differs: 'the database holds another checkpoint in its place',
};

/** Makes the checkpoints of one place: the next one only when the place has the last one, so that none is ever missing there. */
export class Desk {
  readonly #o: DeskOptions;
  /** The last one of the series may be missing at the place; after a start that is not known. */
  #owed: boolean;
  #busy = false;
  #takenMs: number | undefined;
  #failures = 0;
  #error: string | undefined;
  #databaseError: string | undefined;

  constructor(options: DeskOptions) {
    this.#o = options;
    this.#owed = options.series.last !== undefined;
  }

  health(): CheckpointHealth {
    const { place, clock } = this.#o;
    return {
      place: place.name,
      age_seconds: this.#takenMs === undefined ? null : (clock.monotonicMs() - this.#takenMs) / 1000,
      failures: this.#failures,
      ...(this.#error === undefined ? {} : { error: this.#error }),
      ...(this.#databaseError === undefined ? {} : { database_error: this.#databaseError }),
    };
  }

  /** One checkpoint, unless one is still under way. Never rejects. */
  async make(facts: CheckpointFacts, signal: AbortSignal): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      if (this.#owed) await this.#give(signal);
      const isDatabaseThere = facts.omitted !== null;
      // Named by the next one only when the database has answered for it: what it does not know of, it is asked again.
      if (isDatabaseThere) await this.#store();
      await this.#o.series.next(facts);
      this.#owed = true;
      if (isDatabaseThere) await this.#store();
      await this.#give(signal);
      this.#succeeded();
    } catch (thrown) {
      if (!signal.aborted) this.#failed(messageOf(thrown));
    } finally {
      this.#busy = false;
    }
  }

  async #give(signal: AbortSignal): Promise<void> {
    const { last } = this.#o.series;
    if (last === undefined) return;
    await this.#o.place.take(checkpointLine(last), signal);
    this.#owed = false;
    this.#takenMs = this.#o.clock.monotonicMs();
  }

  async #store(): Promise<void> {
    const { series, databaseUrl, logger } = this.#o;
    const { last } = series;
    if (databaseUrl === undefined || last === undefined || series.stored === last.checkpoint.id) return;
    let problem: string | undefined;
    try {
      const outcome = await storeCheckpoint(databaseUrl, last);
      if (outcome === 'stored' || outcome === 'acknowledged') series.stored = last.checkpoint.id;
      else problem = WHY[outcome];
    } catch (thrown) {
      problem = messageOf(thrown);
    }
    if (problem !== undefined && problem !== this.#databaseError) {
      logger.warn({ error: problem }, 'a checkpoint is not stored in the audit database');
    }
    this.#databaseError = problem;
  }

  #succeeded(): void {
    if (this.#error !== undefined) {
      this.#o.logger.info({ place: this.#o.place.name }, 'checkpoints are written again');
    }
    this.#error = undefined;
  }

  #failed(error: string): void {
    this.#failures += 1;
    if (error !== this.#error) {
      this.#o.logger.warn(
        { place: this.#o.place.name, error },
        'no checkpoint is written; it is tried again',
      );
    }
    this.#error = error;
  }
}
