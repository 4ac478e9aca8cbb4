import { CHANNEL, SILENT_AFTER_S } from './context.ts';
import type { Database, Queryable } from './database.ts';
import type { Acknowledgement } from './records.ts';

/** Writes what a node has enforced, and which of its agents have not answered; the last word counts. */
export const acknowledgeRevocation = async (
  database: Database,
  node: string,
  revocationId: string,
  acknowledgement: Acknowledgement,
): Promise<void> =>
  database.transaction(async (tx) => {
    await tx.query(
      `insert into control.revocation_ack (revocation_id, kind, name, node, acked_at, links, streams, ms)
       values ($1, 'node', $2, $2, now(), $3, $4, $5)
       on conflict (revocation_id, kind, name, node) do update
         set acked_at = excluded.acked_at, links = excluded.links, streams = excluded.streams, ms = excluded.ms`,
      [revocationId, node, acknowledgement.links, acknowledgement.streams, acknowledgement.ms],
    );
    const waiting = acknowledgement.pendingAgents ?? [];
    await tx.query(
      `update control.revocation_ack set acked_at = now()
        where revocation_id = $1 and kind = 'agent' and node = $2 and acked_at is null and name <> all($3::text[])`,
      [revocationId, node, waiting.map((agent) => agent.name)],
    );
    for (const agent of waiting) {
      await tx.query(
        `insert into control.revocation_ack (revocation_id, kind, name, node, since)
         values ($1, 'agent', $2, $3, $4) on conflict do nothing`,
        [revocationId, agent.name, node, agent.since],
      );
    }
    await tx.query('select pg_notify($1, $2)', [CHANNEL, `ack ${revocationId}`]);
  });

/** Where a revocation stands. */
export interface RevocationProgress {
  /** Nodes that acknowledged. */
  readonly nodes: number;
  readonly links: number;
  /** Null while no agent has answered. */
  readonly streams: number | null;
  readonly pending: readonly {
    readonly kind: 'node' | 'agent';
    readonly name: string;
    readonly since: Date;
  }[];
  /** True when everything pending has been silent for longer than a live node is. */
  readonly pendingAllSilent: boolean;
}

interface ProgressRow {
  readonly nodes: number;
  readonly links: number;
  readonly streams: number | null;
  /** Null in the one row that there is when nobody is pending. */
  readonly kind: 'node' | 'agent' | null;
  readonly name: string;
  readonly since: Date;
  readonly silent: boolean;
}

/**
 * Seconds that a node is pending beyond its cut_after: it counts from the last word that it heard, which may be younger
 * than the last one that it wrote (every 4 s), and looks once a second.
 */
const CUT_SETTLES_S = 10;

/**
 * Reads where a revocation stands. A node is waited for unless it left in order, started after the revocation
 * (it reads the whole set before it admits anything), or has been silent for so long that its cut_after has taken effect.
 * A node silent for `SILENT_AFTER_S` stays pending, but nobody waits for its answer.
 * One statement, hence one snapshot: an acknowledgement between two reads would be neither pending nor counted.
 */
export const revocationProgress = async (
  database: Queryable,
  revocationId: string,
): Promise<RevocationProgress> => {
  const rows = await database.query<ProgressRow>(
    `select acked.nodes, acked.links, acked.streams, pending.kind, pending.name, pending.since, pending.silent
       from (select count(*)::int as nodes, coalesce(sum(links), 0)::int as links, sum(streams)::int as streams
           from control.revocation_ack where revocation_id = $1 and kind = 'node' and acked_at is not null) acked
       left join (
         select 'node' as kind, n.name, greatest(r.effective_at, r.created_at) as since,
             n.last_seen_at < now() - make_interval(secs => $2) as silent
           from control.revocation r cross join control.node n
          where r.revocation_id = $1 and n.left_at is null and n.started_at <= r.effective_at
            and (n.cut_after_ms is null or n.last_seen_at > now() - make_interval(secs => n.cut_after_ms / 1000.0 + $3))
            and not exists (select from control.revocation_ack a where a.revocation_id = r.revocation_id
              and a.kind = 'node' and a.name = n.name and a.acked_at is not null)
         union all
         select 'agent', a.name, a.since, false
           from control.revocation_ack a where a.revocation_id = $1 and a.kind = 'agent' and a.acked_at is null
       ) pending on true
      order by pending.kind desc, pending.name`,
    [revocationId, SILENT_AFTER_S, CUT_SETTLES_S],
  );
  const pending = rows.flatMap(({ kind, name, since, silent }) =>
    kind === null ? [] : [{ kind, name, since, silent }],
  );
  return {
    nodes: rows[0]?.nodes ?? 0,
    links: rows[0]?.links ?? 0,
    streams: rows[0]?.streams ?? null,
    pending: pending.map(({ kind, name, since }) => ({ kind, name, since })),
    pendingAllSilent: pending.every((one) => one.silent),
  };
};
