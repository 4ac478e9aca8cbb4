import { newClient, withClient } from '../store/client.ts';
import { type CheckpointHead, MAX_CHECKPOINT_HEADS, type SignedCheckpoint } from './checkpoint.ts';

/** The database gets this long to be reached, and again for its answer: a checkpoint is then made without it. */
const DATABASE_LIMIT_MS = 5_000;
const CONFIG = { connectionTimeoutMillis: DATABASE_LIMIT_MS, query_timeout: DATABASE_LIMIT_MS };
const NAME = 'sallyport-audit-checkpoint';

export interface SeenHeads {
  readonly heads: readonly CheckpointHead[];
  /** Chains that are not among them. */
  readonly omitted: number;
}

export type StoreOutcome = 'stored' | 'acknowledged' | 'not_owner' | 'differs';

/** Heads of the chains that none continues, at most 1,000. @throws what the database throws */
export const readCheckpointHeads = (url: string): Promise<SeenHeads> =>
  withClient(newClient(url, NAME, CONFIG), async (client) => {
    const { rows } = await client.query<{
      chain_id: string;
      batch_no: string;
      seal: string;
      omitted: string;
    }>(`select chain_id, batch_no, encode(head, 'hex') as seal, omitted from audit.checkpoint_heads($1)`, [
      MAX_CHECKPOINT_HEADS,
    ]);
    return {
      heads: rows.map((row) => ({ chain: row.chain_id, batch: Number(row.batch_no), seal: row.seal })),
      omitted: Number(rows[0]?.omitted ?? 0),
    };
  });

/** Takes a checkpoint to the database. @throws what the database throws */
export const storeCheckpoint = (url: string, { text, signature }: SignedCheckpoint): Promise<StoreOutcome> =>
  withClient(newClient(url, NAME, CONFIG), async (client) => {
    const { rows } = await client.query<{ outcome: StoreOutcome }>(
      'select audit.store_checkpoint($1, $2) as outcome',
      [text, signature],
    );
    return rows[0]?.outcome ?? 'differs';
  });
