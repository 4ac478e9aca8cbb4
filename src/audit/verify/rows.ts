import type pg from 'pg';

export interface SealRow {
  readonly chain_id: string;
  readonly batch_no: number;
  readonly first_seq: number;
  readonly last_seq: number;
  readonly event_count: number;
  readonly dropped: number;
  readonly root: Buffer;
  readonly seal: Buffer;
  readonly prev_seal: Buffer | null;
  readonly prev_chain: string | null;
  readonly signer: string;
  readonly signature: Buffer;
  readonly sealed_ms: number;
  readonly epoch: number;
  readonly final: boolean;
  readonly canonical: Buffer;
  readonly leaves: Buffer[] | null;
}

export interface EventRow {
  readonly seq: number;
  readonly canonical: Buffer;
  readonly columns?: Readonly<Record<string, unknown>>;
}

export interface ChainRow {
  readonly chain_id: string;
  readonly origin: string | null;
  readonly prev_chain: string | null;
  readonly last_batch: number;
  readonly last_seq: number;
  readonly head: Buffer | null;
}

const NUMBERS = [
  'batch_no',
  'first_seq',
  'last_seq',
  'event_count',
  'dropped',
  'epoch',
  'sealed_ms',
  'seq',
  'last_batch',
];

/** Postgres gives bigint as text; all of ours are safe integers. */
const withNumbers = (row: Record<string, unknown>): unknown => {
  for (const name of NUMBERS) {
    if (typeof row[name] === 'string') row[name] = Number(row[name]);
  }
  return row;
};

/** Seals of a chain after a batch, with their leaves, in order. */
export const sealsAfter = async (
  client: pg.ClientBase,
  chain: string,
  batch: number,
  limit: number,
): Promise<SealRow[]> => {
  const { rows } = await client.query<Record<string, unknown>>(
    `select s.chain_id, s.batch_no, s.first_seq, s.last_seq, s.event_count, s.dropped, s.root, s.seal, s.prev_seal,
       s.prev_chain, s.signer, s.signature, s.epoch, s.final, s.canonical,
       floor(extract(epoch from s.sealed_at) * 1000)::bigint as sealed_ms,
       (select array_agg(l.leaves) from audit.seal_leaves as l
        where l.chain_id = s.chain_id and l.batch_no = s.batch_no) as leaves
     from audit.seal as s
     where s.chain_id = $1 and s.batch_no > $2
     order by s.batch_no limit $3`,
    [chain, batch, limit],
  );
  return rows.map((row) => withNumbers(row) as SealRow);
};

/** Events of a range of sequence numbers, in order; with their columns when asked. */
export const eventsBetween = async (
  client: pg.ClientBase,
  chain: string,
  first: number,
  last: number,
  columns: boolean,
): Promise<EventRow[]> => {
  const { rows } = await client.query<Record<string, unknown>>(
    `select e.seq, e.canonical${columns ? ", to_jsonb(e) - 'canonical' as columns" : ''}
     from audit.event as e
     where e.chain_id = $1 and e.seq between $2 and $3 order by e.seq, e.recorded_at`,
    [chain, first, last],
  );
  return rows.map((row) => withNumbers(row) as EventRow);
};

/** Every chain that is known, or that some seal names. */
export const allChains = async (client: pg.ClientBase): Promise<ChainRow[]> => {
  const { rows } = await client.query<Record<string, unknown>>(
    `select coalesce(k.chain_id, s.chain_id) as chain_id, k.origin_kind || '/' || k.origin_name as origin,
       s.prev_chain, coalesce(k.last_batch, 0) as last_batch, coalesce(k.last_seq, 0) as last_seq, k.head
     from audit.chain as k
     full join (
       select chain_id, (array_agg(prev_chain) filter (where batch_no = 1))[1] as prev_chain
       from audit.seal group by chain_id
     ) as s on s.chain_id = k.chain_id
     order by 1`,
  );
  return rows.map((row) => withNumbers(row) as ChainRow);
};

/** Events that no seal can cover: of chains without a seal, or outside a chain's range. */
export const strayEvents = async (
  client: pg.ClientBase,
): Promise<{ chain_id: string; seq: number; count: number }[]> => {
  const { rows } = await client.query<{ chain_id: string; seq: string; count: string }>(
    `select e.chain_id, min(e.seq) as seq, count(*) as count
     from audit.event as e
     left join (select chain_id, min(first_seq) as first, max(last_seq) as last from audit.seal group by chain_id) as s
       on s.chain_id = e.chain_id
     where s.chain_id is null or e.seq < s.first or e.seq > s.last
     group by e.chain_id`,
  );
  return rows.map((row) => ({ chain_id: row.chain_id, seq: Number(row.seq), count: Number(row.count) }));
};
