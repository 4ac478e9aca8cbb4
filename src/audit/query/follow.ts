import { type Clock, sleep } from '../../runtime/index.ts';
import type { AuditReader, Row } from './reader.ts';

/** How often the database is asked for more. */
const POLL_MS = 500;
/** A batch becomes visible at its commit, a little after its `recorded_at`: looked back for this long. */
const LOOK_BACK_MS = 10_000;
const PAGE_ROWS = 1_000;

export interface FollowOptions {
  readonly reader: AuditReader;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Events of the last … milliseconds first. */
  readonly sinceMs: number;
  readonly type?: string | undefined;
  readonly connection?: string | undefined;
  readonly principal?: string | undefined;
  onEvent(row: Row): void;
}

/** Reads events as they are stored, each once, until the signal. @throws AppError ERR_AUDIT_QUERY_FAILED */
export const followEvents = async (o: FollowOptions): Promise<void> => {
  const seen = new Map<string, number>();
  const startMs = o.clock.nowMs() - o.sinceMs;
  let fromMs = startMs;
  while (!o.signal.aborted) {
    const { rows } = await o.reader.query(
      `select recorded_at, occurred_at, origin, type, action, severity, connection, principal, stream_id, link_id, key_id,
         summary, event_id, chain_id, seq, site
       from audit.timeline
       where recorded_at >= $1::timestamptz and ($2::text is null or type like replace($2, '*', '%'))
         and ($3::text is null or connection = $3) and ($4::text is null or principal = $4)
       order by recorded_at, chain_id, seq`,
      [new Date(fromMs).toISOString(), o.type ?? null, o.connection ?? null, o.principal ?? null],
    );
    for (const row of rows) {
      const id = `${String(row.chain_id)}/${String(row.seq)}`;
      const recordedMs = Date.parse(String(row.recorded_at));
      if (seen.has(id)) continue;
      seen.set(id, recordedMs);
      fromMs = Math.max(fromMs, Math.max(startMs, recordedMs - LOOK_BACK_MS));
      o.onEvent(row);
    }
    if (seen.size > PAGE_ROWS) {
      for (const [id, recordedMs] of seen) if (recordedMs < fromMs) seen.delete(id);
    }
    await sleep(o.clock, POLL_MS, o.signal).catch(() => undefined);
  }
};
