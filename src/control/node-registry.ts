import { messageOf, type Timer, uuidv7 } from '../runtime/index.ts';
import type { ControlContext } from './context.ts';

/** A node writes that it lives this often. */
const HEARTBEAT_MS = 4_000;

/** A relay node as the management API lists it. */
export interface NodeRecord {
  readonly name: string;
  readonly startedAt: Date;
  readonly lastSeenAt: Date;
  readonly state: 'live' | 'silent' | 'left';
}

/** Seconds without a heartbeat after which a node counts as silent. */
const SILENT_AFTER_S = 12;

/** Keeps this node's row: who has to acknowledge revocations is read from these rows. */
export class NodeRegistry {
  readonly #context: ControlContext;
  readonly #node: string;
  readonly #cutAfterMs: number | undefined;
  readonly #instance: string;
  #timer: Timer | undefined;
  #registered = false;

  constructor(context: ControlContext, node: string, cutAfterMs: number | undefined) {
    this.#context = context;
    this.#node = node;
    this.#cutAfterMs = cutAfterMs;
    this.#instance = uuidv7(context.clock);
  }

  /** Writes the row of this process, once; to be called before the first full read of revocations. */
  async register(): Promise<void> {
    if (this.#registered) {
      await this.#beat();
      return;
    }
    await this.#context.database.query(
      `insert into control.node (name, instance, cut_after_ms) values ($1, $2, $3)
       on conflict (name) do update set instance = excluded.instance, cut_after_ms = excluded.cut_after_ms,
         started_at = now(), last_seen_at = now(), left_at = null`,
      [this.#node, this.#instance, this.#cutAfterMs ?? null],
    );
    this.#registered = true;
    this.#timer ??= this.#context.clock
      .every(HEARTBEAT_MS, () => {
        this.#beat().catch((error: unknown) => {
          this.#context.logger.debug({ cause: messageOf(error) }, 'heartbeat not written');
        });
      })
      .unref();
  }

  async #beat(): Promise<void> {
    const rows = await this.#context.database.query(
      'update control.node set last_seen_at = now() where name = $1 and instance = $2 returning name',
      [this.#node, this.#instance],
    );
    if (rows.length === 0)
      this.#context.logger.error({ node: this.#node }, 'another process runs under the name of this node');
  }

  /** Leaves in order: nobody waits for this node's acknowledgements any more. */
  async leave(): Promise<void> {
    this.#timer?.cancel();
    if (!this.#registered) return;
    await this.#context.database.query(
      'update control.node set left_at = now() where name = $1 and instance = $2',
      [this.#node, this.#instance],
    );
  }
}

/** Every node ever seen, by name; at most 1,000. */
export const listNodes = async (
  context: Pick<ControlContext, 'database'>,
): Promise<readonly NodeRecord[]> => {
  const rows = await context.database.query<{
    name: string;
    started_at: Date;
    last_seen_at: Date;
    state: NodeRecord['state'];
  }>(
    `select name, started_at, last_seen_at, case when left_at is not null then 'left'
        when last_seen_at < now() - make_interval(secs => $1) then 'silent' else 'live' end as state
       from control.node order by name limit 1000`,
    [SILENT_AFTER_S],
  );
  return rows.map((row) => ({
    name: row.name,
    startedAt: row.started_at,
    lastSeenAt: row.last_seen_at,
    state: row.state,
  }));
};
