import { messageOf, type Timer, uuidv7 } from '../runtime/index.ts';
import type { ControlContext } from './context.ts';

/** A node writes that it lives this often. */
const HEARTBEAT_MS = 4_000;
/** A change of who is linked here is told to other nodes this soon. */
const PARTIES_MS = 250;

/** A relay node as the management API lists it. */
export interface NodeRecord {
  readonly name: string;
  readonly startedAt: Date;
  readonly lastSeenAt: Date;
  readonly state: 'live' | 'silent' | 'left';
  readonly parties: NodeParties;
}

/** Who is linked at a node. */
export interface NodeParties {
  /** Agents that publish something. */
  readonly agents: number;
  readonly gateways: number;
}

/** Seconds without a heartbeat after which a node counts as silent. */
const SILENT_AFTER_S = 12;

/** Keeps this node's row: who has to acknowledge revocations is read from these rows. */
export class NodeRegistry {
  readonly #context: ControlContext;
  readonly #node: string;
  readonly #cutAfterMs: number | undefined;
  readonly #instance: string;
  readonly #timers: Timer[] = [];
  #registered = false;
  #parties: () => NodeParties = () => ({ agents: 0, gateways: 0 });
  /** What the row says, or will in a moment. */
  #told: NodeParties = { agents: 0, gateways: 0 };
  /** The most that another live node has; undefined until it was read. */
  #elsewhere: NodeParties | undefined;

  constructor(context: ControlContext, node: string, cutAfterMs: number | undefined) {
    this.#context = context;
    this.#node = node;
    this.#cutAfterMs = cutAfterMs;
    this.#instance = uuidv7(context.clock);
  }

  /** Who is linked here, asked at each heartbeat. */
  countParties(parties: () => NodeParties): void {
    this.#parties = parties;
  }

  /** Who is linked at other nodes and not here: a stream that comes here now would find nobody. */
  missing(): readonly string[] {
    const elsewhere = this.#elsewhere;
    if (elsewhere === undefined) return ['who is linked at other nodes has not been read yet'];
    const here = this.#parties();
    const missing: string[] = [];
    if (here.agents === 0 && elsewhere.agents > 0)
      missing.push('no agent publishes here yet, though agents do at another node');
    if (here.gateways === 0 && elsewhere.gateways > 0)
      missing.push('no gateway is logged in here yet, though gateways are at another node');
    return missing;
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
         started_at = now(), last_seen_at = now(), left_at = null, agents = 0, gateways = 0`,
      [this.#node, this.#instance, this.#cutAfterMs ?? null],
    );
    this.#registered = true;
    await this.#beat();
    const { clock } = this.#context;
    this.#timers.push(
      clock.every(HEARTBEAT_MS, () => this.#beatSoon()).unref(),
      clock
        .every(PARTIES_MS, () => {
          const { agents, gateways } = this.#parties();
          if (agents !== this.#told.agents || gateways !== this.#told.gateways) this.#beatSoon();
        })
        .unref(),
    );
  }

  #beatSoon(): void {
    this.#beat().catch((error: unknown) => {
      this.#context.logger.debug({ cause: messageOf(error) }, 'heartbeat not written');
    });
  }

  async #beat(): Promise<void> {
    const parties = this.#parties();
    const { agents, gateways } = parties;
    this.#told = parties;
    const rows = await this.#context.database.query<NodeParties>(
      `with me as (
         update control.node set last_seen_at = now(), agents = $3, gateways = $4
          where name = $1 and instance = $2 returning name)
       select coalesce(max(n.agents), 0)::int as agents, coalesce(max(n.gateways), 0)::int as gateways
         from me left join control.node n on n.name <> me.name and n.left_at is null
          and n.last_seen_at > now() - make_interval(secs => $5)
        group by me.name`,
      [this.#node, this.#instance, agents, gateways, SILENT_AFTER_S],
    );
    const [elsewhere] = rows;
    if (elsewhere === undefined)
      this.#context.logger.error({ node: this.#node }, 'another process runs under the name of this node');
    else this.#elsewhere = elsewhere;
  }

  /** Leaves in order: nobody waits for this node's acknowledgements any more. */
  async leave(): Promise<void> {
    for (const timer of this.#timers) timer.cancel();
    if (!this.#registered) return;
    await this.#context.database.query(
      'update control.node set left_at = now() where name = $1 and instance = $2',
      [this.#node, this.#instance],
    );
  }
}

/** At most `limit` nodes, of all ever seen, whose name is above `after`; by name. */
export const listNodes = async (
  context: Pick<ControlContext, 'database'>,
  after: string,
  limit: number,
): Promise<readonly NodeRecord[]> => {
  const rows = await context.database.query<{
    name: string;
    started_at: Date;
    last_seen_at: Date;
    state: NodeRecord['state'];
    agents: number;
    gateways: number;
  }>(
    `select name, started_at, last_seen_at, agents, gateways, case when left_at is not null then 'left'
        when last_seen_at < now() - make_interval(secs => $1) then 'silent' else 'live' end as state
       from control.node where name collate "C" > $2 order by name collate "C" limit $3`,
    [SILENT_AFTER_S, after, limit],
  );
  return rows.map((row) => ({
    name: row.name,
    startedAt: row.started_at,
    lastSeenAt: row.last_seen_at,
    state: row.state,
    parties: { agents: row.agents, gateways: row.gateways },
  }));
};
