import type { AuditEventInput } from '../audit/index.ts';
import { messageOf, type Timer } from '../runtime/index.ts';
import type { ControlContext } from './context.ts';

/** Events handed over in one transaction. */
const BATCH = 100;
/** Pause between looks into the outbox when nothing hints at an event. */
const PERIOD_MS = 2_000;
/** Rows are kept so long after their hand-over, days: what `audit verify --control` compares. Also in the schema. */
export const OUTBOX_KEPT_DAYS = 30;
/** Pause between looks for rows that have been kept long enough. */
const PRUNE_PERIOD_MS = 3_600_000;
/** Rows deleted in one transaction: far below the 5 s that a statement may take. */
const PRUNE_BATCH = 1_000;
/** Lock that makes one node drain at a time: "sallyout" in ASCII. */
const DRAIN_LOCK = '8313203998064149876';

interface OutboxRow {
  readonly id: string;
  readonly event_id: string;
  readonly event: AuditEventInput;
}

/** Where events go; resolves when the event is durable there. */
export type OutboxSink = (event: AuditEventInput) => Promise<void>;

/**
 * Hands events of the outbox to a sink, in order; one node of all at a time. Each at least once, always under the id
 * of its row: a second hand-over, by this node or another, is the same event again. Within a process that lives there
 * is none: what the sink took is remembered until the mark is committed.
 */
export class OutboxDrain {
  readonly #context: ControlContext;
  readonly #sink: OutboxSink;
  readonly #timer: Timer;
  /** Event ids that the sink has and whose mark is not known to be committed; at most one batch. */
  #unmarked = new Set<string>();
  #prunedMs: number | undefined;
  #running: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  constructor(context: ControlContext, sink: OutboxSink) {
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
      await this.#prune();
    } catch (error) {
      this.#context.logger.warn({ cause: messageOf(error) }, 'outbox not drained; tried again in 2 s');
    }
  }

  /** True when there may be more. */
  async #drainBatch(): Promise<boolean> {
    const { database } = this.#context;
    let failure: Error | undefined;
    const count = await database.transaction(async (tx) => {
      failure = undefined;
      const locks = await tx.query<{ mine: boolean }>('select pg_try_advisory_xact_lock($1) as mine', [
        DRAIN_LOCK,
      ]);
      if (locks[0]?.mine !== true) return 0;
      const rows = await tx.query<OutboxRow>(
        'select id, event_id, event from control.outbox where drained_at is null order by id limit $1',
        [BATCH],
      );
      // A row that is no longer there was marked after all, by a commit whose answer was lost or by another node.
      this.#unmarked = new Set(rows.map((row) => row.event_id).filter((id) => this.#unmarked.has(id)));
      const done: string[] = [];
      for (const row of rows) {
        try {
          if (!this.#unmarked.has(row.event_id)) await this.#sink({ ...row.event, id: row.event_id });
        } catch (error) {
          // What the sink took before is still marked and committed.
          failure = error instanceof Error ? error : new Error(messageOf(error));
          break;
        }
        this.#unmarked.add(row.event_id);
        done.push(row.id);
      }
      if (done.length > 0)
        await tx.query('update control.outbox set drained_at = now() where id = any($1::bigint[])', [done]);
      return done.length;
    });
    if (failure !== undefined) throw failure;
    return count === BATCH;
  }

  /** Deletes, in batches, what was kept long enough; when Postgres fails, the next hour tries again. */
  async #prune(): Promise<void> {
    const { clock, database } = this.#context;
    const nowMs = clock.monotonicMs();
    if (this.#prunedMs !== undefined && nowMs - this.#prunedMs < PRUNE_PERIOD_MS) return;
    this.#prunedMs = nowMs;
    for (;;) {
      const deleted = await database.query(
        `delete from control.outbox where id = any(array(
           select id from control.outbox where drained_at < now() - make_interval(days => $1)
            order by drained_at limit $2)) returning id`,
        [OUTBOX_KEPT_DAYS, PRUNE_BATCH],
      );
      if (deleted.length < PRUNE_BATCH) return;
    }
  }
}
