import type pg from 'pg';

/** Heads of other chains in one heartbeat: about 10 KiB a minute. */
export const COUNTERSIGNED_HEADS = 64;
/** A heartbeat waits no longer for them: three of 60 s without one and a chain counts as silent. */
const HEADS_TIMEOUT_MS = 5_000;

export interface RecentHeads {
  readonly heads: readonly { readonly chain: string; readonly batch: number; readonly seal: string }[];
  /** Chains that are not among them. */
  readonly omitted: number;
}

/**
 * Heads of the chains that were written to last, without the caller's own: at most `COUNTERSIGNED_HEADS`, and how many chains
 * are left out. @throws what the pool throws
 */
export const readRecentHeads = async (pool: pg.Pool, ownChain: string): Promise<RecentHeads> => {
  const query = {
    text: `select chain_id, batch_no, encode(head, 'hex') as seal, omitted from audit.recent_heads($1::uuid, $2)`,
    values: [ownChain, COUNTERSIGNED_HEADS],
    query_timeout: HEADS_TIMEOUT_MS,
  };
  const { rows } = await pool.query<{ chain_id: string; batch_no: string; seal: string; omitted: string }>(
    query,
  );
  return {
    heads: rows.map((row) => ({ chain: row.chain_id, batch: Number(row.batch_no), seal: row.seal })),
    omitted: Number(rows[0]?.omitted ?? 0),
  };
};
