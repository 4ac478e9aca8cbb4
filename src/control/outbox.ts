import type { AuditEventInput } from '../audit/index.ts';
import { messageOf, type Timer } from '../runtime/index.ts';
import type { ControlContext } from './context.ts';

/** Events handed over in one transaction. */
const BATCH = 100;
/** Pause between looks into the outbox when nothing hints at an event. */
const PERIOD_MS = 2_000;
/** Lock that makes one node drain at a time: "sallyout" in ASCII. */
const DRAIN_LOCK = '8313203998064149876';

interface OutboxRow {
  readonly id: string;
  readonly event: AuditEventInput;
}

/** Hands events of the outbox to a sink, in order, each at least once; one node of all at a time. */
export class OutboxDrain {
  readonly #context: ControlContext;
  readonly #sink: (event: AuditEventInput) => Promise<void>;
  readonly #timer: Timer;
  #running: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  constructor(context: ControlContext, sink: (event: AuditEventInput) => Promise<void>) {
    this.#context = context;
    this.#sink = sink;
    this.#timer = context.clock.every(PERIOD_MS, () => this.hint()).unref();
    this.hint();
  }

  /** There may be an event: looks now. */
  hint(): void {
    if (this.#stopped) return;
    if (this.#running !== undefined) {
      this.#again = true;
      return;
    }
    this.#running = this.#drain().finally(() => {
      this.#running = undefined;
      if (!this.#again) return;
      this.#again = false;
      this.hint();
    });
  }

  /** Drains once more, then stops. */
  async stop(): Promise<void> {
    this.#timer.cancel();
    this.hint();
    while (this.#running !== undefined) await this.#running;
    this.#stopped = true;
  }

  async #drain(): Promise<void> {
    try {
      while (await this.#drainBatch());
    } catch (error) {
      this.#context.logger.warn({ cause: messageOf(error) }, 'outbox not drained; tried again in 2 s');
    }
  }

  /** True when there may be more. */
  async #drainBatch(): Promise<boolean> {
    let failure: Error | undefined;
    const count = await this.#context.database.transaction(async (tx) => {
      const locks = await tx.query<{ mine: boolean }>('select pg_try_advisory_xact_lock($1) as mine', [
        DRAIN_LOCK,
      ]);
      if (locks[0]?.mine !== true) return 0;
      const rows = await tx.query<OutboxRow>(
        'select id, event from control.outbox where drained_at is null order by id limit $1',
        [BATCH],
      );
      const done: string[] = [];
      for (const row of rows) {
        try {
          await this.#sink(row.event);
        } catch (error) {
          // What the sink took before is still marked and committed, or it would be sealed twice.
          failure = error instanceof Error ? error : new Error(messageOf(error));
          break;
        }
        done.push(row.id);
      }
      if (done.length > 0)
        await tx.query('update control.outbox set drained_at = now() where id = any($1::bigint[])', [done]);
      return done.length;
    });
    if (failure !== undefined) throw failure;
    return count === BATCH;
  }
}
