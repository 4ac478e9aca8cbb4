import { isDeepStrictEqual } from 'node:util';
import { type ControlContext, SILENT_AFTER_S } from './context.ts';
import type { Queryable } from './database.ts';

/** Rows written in one statement. */
const BATCH = 500;

/** A credential of a login, without anything secret. */
export interface AgentCredential {
  readonly connection: string | null;
  readonly key_id: string;
  readonly principal: string;
}

/** One agent's login at this node, as the node writes it for all. */
export interface AgentLogin {
  readonly name: string;
  /** The installation: kept in the agent's state directory over restarts. */
  readonly instance: string;
  readonly login_id: string;
  /** RFC 3339, UTC. */
  readonly since: string;
  /** Observed address; null when a proxy hid it. */
  readonly address: string | null;
  readonly state: 'up' | 'down';
  readonly build: string | null;
  readonly bundle_sha256: string | null;
  /** Null when the agent has no bundle or does not say. */
  readonly bundle_sequence: number | null;
  readonly credentials: readonly AgentCredential[];
  readonly published: readonly string[];
  /** Data links that this node joins for it. */
  readonly links: number;
  /** Its streams over every node, by its own last report. */
  readonly streams: number;
}

const keyOf = ({ name, instance }: AgentLogin): string => JSON.stringify([name, instance]);

/** What is told at once when it changes; the counts wait for the next heartbeat. */
const factsOf = (login: AgentLogin): object => ({ ...login, links: 0, streams: 0 });

/** Keeps this node's rows of `control.agent_login` equal to its logins, by writing what changed. */
export class AgentRegistry {
  readonly #context: Pick<ControlContext, 'database'>;
  readonly #node: string;
  readonly #written = new Map<string, AgentLogin>();
  #isCleared = false;

  constructor(context: Pick<ControlContext, 'database'>, node: string) {
    this.#context = context;
    this.#node = node;
  }

  /** True when something but a count is not written yet. */
  isStale(logins: readonly AgentLogin[]): boolean {
    return (
      logins.length !== this.#written.size ||
      logins.some((login) => {
        const written = this.#written.get(keyOf(login));
        return written === undefined || !isDeepStrictEqual(factsOf(written), factsOf(login));
      })
    );
  }

  /**
   * Writes what differs from what was written. The node's row must be there; what an earlier run left goes first.
   * @throws AppError ERR_CONTROL_UNAVAILABLE; what was not written is written with the next call
   */
  async write(logins: readonly AgentLogin[]): Promise<void> {
    const { database } = this.#context;
    if (!this.#isCleared) {
      await database.query('delete from control.agent_login where node = $1', [this.#node]);
      this.#written.clear();
      this.#isCleared = true;
    }
    const now = new Map(logins.map((login) => [keyOf(login), login]));
    const gone = [...this.#written].filter(([key]) => !now.has(key));
    if (gone.length > 0) {
      await database.query(
        `delete from control.agent_login a using jsonb_to_recordset($2) as gone (name text, instance text)
          where a.node = $1 and a.name = gone.name and a.instance = gone.instance`,
        [this.#node, JSON.stringify(gone.map(([, { name, instance }]) => ({ name, instance })))],
      );
      for (const [key] of gone) this.#written.delete(key);
    }
    const changed = [...now].filter(([key, login]) => !isDeepStrictEqual(this.#written.get(key), login));
    for (let from = 0; from < changed.length; from += BATCH) {
      const batch = changed.slice(from, from + BATCH);
      const rows = batch.map(([, { name, instance, links, streams, ...login }]) => ({
        name,
        instance,
        links,
        streams,
        login,
      }));
      await database.query(
        `insert into control.agent_login (node, name, instance, login, links, streams)
         select $1, name, instance, login, links, streams
           from jsonb_to_recordset($2) as told (name text, instance text, login jsonb, links integer, streams integer)
         on conflict (node, instance, name) do update
           set login = excluded.login, links = excluded.links, streams = excluded.streams`,
        [this.#node, JSON.stringify(rows)],
      );
      for (const [key, login] of batch) this.#written.set(key, login);
    }
  }

  /** The rows are gone, or another run's: everything is written anew. */
  forget(): void {
    this.#isCleared = false;
  }
}

/** One installation of an agent, over every live node. */
export interface AgentRecord {
  readonly name: string;
  readonly instance: string;
  /** When the oldest of its logins was made. RFC 3339. */
  readonly since: string;
  readonly build: string | null;
  readonly bundle_sha256: string | null;
  readonly bundle_sequence: number | null;
  readonly credentials: readonly AgentCredential[];
  /** Connections that it publishes at some node. */
  readonly published: readonly string[];
  readonly links: number;
  readonly streams: number;
  readonly nodes: readonly {
    readonly node: string;
    readonly login_id: string;
    readonly since: string;
    readonly address: string | null;
    readonly state: 'up' | 'down';
    readonly published: readonly string[];
    readonly links: number;
  }[];
}

interface LoginRow {
  readonly name: string;
  readonly instance: string;
  readonly logins: readonly (AgentLogin & { readonly node: string })[];
}

const recordOf = ({ name, instance, logins }: LoginRow): AgentRecord => {
  const credentials = new Map(
    logins.flatMap((login) =>
      login.credentials.map((one) => [`${one.connection ?? ''} ${one.key_id}`, one] as const),
    ),
  );
  const newest = logins.toSorted((left, right) => (left.since < right.since ? 1 : -1))[0];
  return {
    name,
    instance,
    since: logins.map(({ since }) => since).sort()[0] ?? '',
    build: newest?.build ?? null,
    bundle_sha256: newest?.bundle_sha256 ?? null,
    bundle_sequence: newest?.bundle_sequence ?? null,
    credentials: [...credentials.values()],
    published: [...new Set(logins.flatMap(({ published }) => published))].sort(),
    links: logins.reduce((sum, { links }) => sum + links, 0),
    // Each login repeats what the one process said of itself.
    streams: Math.max(0, ...logins.map(({ streams }) => streams)),
    nodes: logins.map(({ node, login_id, since, address, state, published, links }) => ({
      node,
      login_id,
      since,
      address,
      state,
      published: [...published].sort(),
      links,
    })),
  };
};

export interface AgentFilter {
  readonly name?: string | undefined;
  readonly instance?: string | undefined;
}

/** At most `limit` agents above the name and instance given, by both; as live nodes wrote them at their last heartbeat. */
export const listAgents = async (
  database: Queryable,
  filter: AgentFilter,
  after: { readonly name: string; readonly instance: string },
  limit: number,
): Promise<readonly AgentRecord[]> => {
  const rows = await database.query<LoginRow>(
    `select a.name, a.instance, jsonb_agg(a.login || jsonb_build_object('node', a.node, 'links', a.links,
         'streams', a.streams) order by a.node) as logins
       from control.agent_login a join control.node n on n.name = a.node
      where n.left_at is null and n.last_seen_at > now() - make_interval(secs => $1)
        and ($2::text is null or a.name = $2) and ($3::text is null or a.instance = $3)
        and (a.name collate "C", a.instance collate "C") > ($4, $5)
      group by a.name, a.instance order by a.name collate "C", a.instance collate "C" limit $6`,
    [SILENT_AFTER_S, filter.name ?? null, filter.instance ?? null, after.name, after.instance, limit],
  );
  return rows.map(recordOf);
};
