import { messageOf, type Timer, uuidv7 } from '../runtime/index.ts';
import { type AgentLogin, AgentRegistry } from './agent-registry.ts';
import { type ControlContext, SILENT_AFTER_S } from './context.ts';

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

/** Most nodes that the preview of a revocation counts. */
export const MAX_PREVIEWED_NODES = 1_000;

/** Where a node's ends dial it. */
export interface PublicAddress {
  /** In any case; names are compared without it. */
  readonly host: string;
  readonly ports: readonly number[];
}

interface BeatRow extends NodeParties {
  /** Other live nodes that ends dial at an address of this one. */
  readonly sharers: readonly string[];
  /** A process that had the name before is alive. */
  readonly has_rival: boolean;
}

/** Keeps this node's row: who has to acknowledge revocations is read from these rows. */
export class NodeRegistry {
  readonly #context: ControlContext;
  readonly #node: string;
  readonly #cutAfterMs: number | undefined;
  readonly #address: PublicAddress | undefined;
  readonly #instance: string;
  readonly #timers: Timer[] = [];
  readonly #agents: AgentRegistry;
  #registered = false;
  #hasLeft = false;
  #beating: Promise<void> = Promise.resolve();
  /** When this process first had the row, as Postgres wrote it. */
  #startedAt: string | undefined;
  #isSharingName = false;
  #sharers: readonly string[] = [];
  #isWriting = false;
  #logins: () => readonly AgentLogin[] = () => [];
  #parties: () => NodeParties = () => ({ agents: 0, gateways: 0 });
  /** What the row says, or will in a moment. */
  #told: NodeParties = { agents: 0, gateways: 0 };
  /** The most that another live node has; undefined until it was read. */
  #elsewhere: NodeParties | undefined;

  constructor(
    context: ControlContext,
    node: string,
    cutAfterMs: number | undefined,
    address: PublicAddress | undefined,
  ) {
    this.#context = context;
    this.#node = node;
    this.#cutAfterMs = cutAfterMs;
    this.#address = address;
    this.#instance = uuidv7(context.clock);
    this.#agents = new AgentRegistry(context, node);
  }

  /** Which agents are logged in here, asked at each heartbeat. */
  listAgents(logins: () => readonly AgentLogin[]): void {
    this.#logins = logins;
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

  /** What this node shares with another live one and must not; the ends of a link would not meet. */
  conflicts(): readonly string[] {
    const conflicts: string[] = [];
    if (this.#isSharingName)
      conflicts.push(`another process runs under the name of this node, ${this.#node}`);
    for (const name of this.#sharers)
      conflicts.push(`node ${name} has the public address of this node, ${this.#address?.host ?? ''}`);
    return conflicts;
  }

  /** Writes the row of this process, once; to be called before the first full read of revocations. */
  async register(): Promise<void> {
    if (this.#registered) {
      await this.#beat();
      return;
    }
    await this.#take();
    this.#registered = true;
    this.#agents.forget();
    await this.#beat();
    const { clock } = this.#context;
    this.#timers.push(
      clock.every(HEARTBEAT_MS, () => this.#beatSoon()).unref(),
      clock
        .every(PARTIES_MS, () => {
          const { agents, gateways } = this.#parties();
          const isTold = agents === this.#told.agents && gateways === this.#told.gateways;
          if (!isTold || this.#agents.isStale(this.#logins())) this.#beatSoon();
        })
        .unref(),
    );
  }

  /** Puts this process into the row, whoever had it. A process that takes it back started when it did. */
  async #take(): Promise<void> {
    const [row] = await this.#context.database.query<{ started_at: string }>(
      `insert into control.node (name, instance, cut_after_ms, public_host, public_ports, started_at)
       values ($1, $2, $3, lower($4), $5, coalesce($6::timestamptz, now()))
       on conflict (name) do update set instance = excluded.instance, cut_after_ms = excluded.cut_after_ms,
         public_host = excluded.public_host, public_ports = excluded.public_ports,
         started_at = excluded.started_at, last_seen_at = now(), left_at = null, agents = 0, gateways = 0,
         rival = null, rival_seen_at = null
       returning started_at::text`,
      [
        this.#node,
        this.#instance,
        this.#cutAfterMs ?? null,
        this.#address?.host ?? null,
        this.#address?.ports ?? [],
        this.#startedAt ?? null,
      ],
    );
    this.#startedAt = row?.started_at;
  }

  #beatSoon(): void {
    const beat = this.#beat().catch((error: unknown) => {
      this.#context.logger.debug({ cause: messageOf(error) }, 'heartbeat not written');
    });
    this.#beating = Promise.all([this.#beating, beat]).then(() => undefined);
  }

  async #beat(): Promise<void> {
    const parties = this.#parties();
    const { agents, gateways } = parties;
    this.#told = parties;
    const rows = await this.#context.database.query<BeatRow>(
      `with me as (
         update control.node set last_seen_at = now(), agents = $3, gateways = $4
          where name = $1 and instance = $2
         returning name, public_host, public_ports,
           coalesce(rival_seen_at > now() - make_interval(secs => $5), false) as has_rival)
       select coalesce(max(n.agents), 0)::int as agents, coalesce(max(n.gateways), 0)::int as gateways,
           coalesce(array_agg(n.name order by n.name) filter (
             where n.public_host = me.public_host and n.public_ports && me.public_ports), '{}') as sharers,
           me.has_rival
         from me left join control.node n on n.name <> me.name and n.left_at is null
          and n.last_seen_at > now() - make_interval(secs => $5)
        group by me.name, me.has_rival`,
      [this.#node, this.#instance, agents, gateways, SILENT_AFTER_S],
    );
    const [row] = rows;
    if (row === undefined) {
      await this.#displaced();
      return;
    }
    this.#elsewhere = { agents: row.agents, gateways: row.gateways };
    this.#sharers = row.sharers;
    this.#sharesName(row.has_rival);
    await this.#writeAgents();
  }

  /** Another process has the row: tells it so while it lives, and takes the row back when it does not. */
  async #displaced(): Promise<void> {
    const told = await this.#context.database.query(
      `update control.node set rival = $2, rival_seen_at = now()
        where name = $1 and instance <> $2 and left_at is null
          and last_seen_at > now() - make_interval(secs => $3) returning name`,
      [this.#node, this.#instance, SILENT_AFTER_S],
    );
    this.#sharesName(told.length > 0);
    if (told.length === 0 && !this.#hasLeft) await this.#take();
  }

  #sharesName(shares: boolean): void {
    if (shares === this.#isSharingName) return;
    this.#isSharingName = shares;
    const { logger } = this.#context;
    if (shares) logger.error({ node: this.#node }, 'another process runs under the name of this node');
    else logger.warn({ node: this.#node }, 'the name of this node is its own again');
  }

  /** One write at a time: an older list must not land after a newer one. */
  async #writeAgents(): Promise<void> {
    if (this.#isWriting) return;
    this.#isWriting = true;
    try {
      await this.#agents.write(this.#logins());
    } finally {
      this.#isWriting = false;
    }
  }

  /** Leaves in order: nobody waits for this node's acknowledgements any more. */
  async leave(): Promise<void> {
    for (const timer of this.#timers) timer.cancel();
    this.#hasLeft = true;
    if (!this.#registered) return;
    // A heartbeat under way may take the row back; nobody would ever leave it.
    await this.#beating;
    await this.#context.database.query(
      `update control.node set left_at = case when instance = $2 then now() else left_at end,
         rival = nullif(rival, $2), rival_seen_at = case when rival = $2 then null else rival_seen_at end
        where name = $1`,
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
