import type pg from 'pg';
import { readSeal, sealDigest } from '../seal/seal.ts';
import { likelyAfter, type Position, START } from './position.ts';
import { type ChainTotals, emptySums } from './piece.ts';
import type { SignerCheck } from './signer-check.ts';

/** Seals looked at in one query. */
const PAGE = 100;

interface Row {
  readonly batch_no: string;
  readonly canonical: Buffer;
  readonly signature: Buffer;
}

/** What is left out of a chain, as the columns say it. */
export interface LeftOut {
  readonly seals: number;
  readonly events: number;
}

export interface SinceOptions {
  readonly client: pg.ClientBase;
  readonly sinceMs: number;
  /** Undefined when nothing says whom to believe. */
  readonly signers: SignerCheck | undefined;
}

/** Whether a seal says, under its signature where that can be checked, that it was made before. */
const isOlder = (chain: string, row: Row, { sinceMs, signers }: SinceOptions): boolean => {
  const text = row.canonical.toString('utf8');
  const seal = readSeal(text);
  if (seal === undefined || seal.chain !== chain || String(seal.batch) !== row.batch_no) return false;
  if (signers?.believes(seal, sealDigest(text), row.signature) === false) return false;
  return Date.parse(seal.time) < sinceMs;
};

/** The last seal of a chain behind which everything was sealed since; the start when there is none. */
const lastBefore = async (chain: string, options: SinceOptions): Promise<Position> => {
  const { client, sinceMs } = options;
  const { rows: first } = await client.query<{ batch_no: string | null }>(
    'select min(batch_no) as batch_no from audit.seal where chain_id = $1 and sealed_at >= to_timestamp($2)',
    [chain, sinceMs / 1_000],
  );
  // The columns are no evidence: from where they point, back to a seal that says so itself.
  for (let before = first[0]?.batch_no ?? null; ; ) {
    const { rows } = await client.query<Row>(
      `select batch_no, canonical, signature from audit.seal
       where chain_id = $1 and ($2::bigint is null or batch_no < $2) order by batch_no desc limit $3`,
      [chain, before, PAGE],
    );
    const found = rows.find((row) => isOlder(chain, row, options));
    if (found !== undefined) {
      return likelyAfter({ chain, place: found.batch_no, canonical: found.canonical });
    }
    const last = rows.at(-1);
    if (last === undefined) return START;
    before = last.batch_no;
  }
};

/** What a chain's first batch says of the chain before it, whether or not it is read. */
const startOf = async (client: pg.ClientBase, chain: string): Promise<ChainTotals['sums']['start']> => {
  const { rows } = await client.query<Row>(
    'select batch_no, canonical, signature from audit.seal where chain_id = $1 and batch_no = 1',
    [chain],
  );
  const seal = rows[0] === undefined ? undefined : readSeal(rows[0].canonical.toString('utf8'));
  return seal === undefined ? null : { prev: seal.prev, prevChain: seal.prev_chain };
};

/** Totals of a chain that is read from where it was sealed since, and what of it is not read. */
export const totalsSince = async (
  chain: string,
  site: string | null,
  options: SinceOptions,
): Promise<{ totals: ChainTotals; leftOut: LeftOut }> => {
  const { client } = options;
  const position = await lastBefore(chain, options);
  if (position.place === null) {
    return {
      totals: { chain, site, position, sums: emptySums(), stray: null },
      leftOut: { seals: 0, events: 0 },
    };
  }
  const sums = { ...emptySums(), whole: false, start: await startOf(client, chain) };
  const { rows } = await client.query<{ seals: string; events: string }>(
    `select count(*) as seals, coalesce(sum(event_count), 0) as events from audit.seal
     where chain_id = $1 and batch_no <= $2`,
    [chain, position.place],
  );
  const leftOut = { seals: Number(rows[0]?.seals), events: Number(rows[0]?.events) };
  return { totals: { chain, site, position, sums, stray: null }, leftOut };
};
