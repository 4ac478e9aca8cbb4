import type pg from 'pg';
import { SEAL_TAG, sealDigest } from '../seal/seal.ts';
import type { PlacedSeal } from './position.ts';

/** Batches asked for in one query. */
const MAX_ASKED = 5_000;

export interface BatchName {
  readonly chain: string;
  readonly batch: number;
}

interface StoredRow {
  readonly chain_id: string;
  readonly batch_no: string;
  readonly canonical: Buffer;
}

const keyOf = ({ chain, batch }: BatchName): string => `${chain} ${batch}`;

/** Digests of the stored bytes of seals, hex, by what was asked for. */
export class StoredDigests {
  readonly #digests = new Map<string, string>();

  /** Looks them up in the snapshot of the connection. Chains are UUIDs in lower case. */
  static async of(client: pg.ClientBase, wanted: readonly BatchName[]): Promise<StoredDigests> {
    const found = new StoredDigests();
    for (let at = 0; at < wanted.length; at += MAX_ASKED) {
      const asked = wanted.slice(at, at + MAX_ASKED);
      const { rows } = await client.query<StoredRow>(
        `select s.chain_id, s.batch_no, s.canonical
         from (select distinct chain_id, batch_no from unnest($1::uuid[], $2::bigint[]) as w (chain_id, batch_no)) as w
         join audit.seal as s on s.chain_id = w.chain_id and s.batch_no = w.batch_no`,
        [asked.map(({ chain }) => chain), asked.map(({ batch }) => batch)],
      );
      for (const { chain_id: chain, batch_no: batch, canonical } of rows) {
        const digest = sealDigest(canonical.toString('utf8')).toString('hex');
        found.#digests.set(keyOf({ chain, batch: Number(batch) }), digest);
      }
    }
    return found;
  }

  /** Undefined when no such batch is stored. */
  get(name: BatchName): string | undefined {
    return this.#digests.get(keyOf(name));
  }
}

/** Number of the first batch of a chain whose stored seal has this digest. */
export const batchWithDigest = async (
  client: pg.ClientBase,
  chain: string,
  digest: string,
): Promise<number | undefined> => {
  const { rows } = await client.query<StoredRow>(
    `select s.chain_id, s.batch_no, s.canonical from audit.seal as s
     where s.chain_id = $1 and sha256($2::bytea || s.canonical) = decode($3, 'hex')
     order by s.batch_no limit 1`,
    [chain, Buffer.from(SEAL_TAG), digest],
  );
  return rows[0] === undefined ? undefined : Number(rows[0].batch_no);
};

/** The seal that ends a piece of `batches` rows behind a place; undefined when the chain has fewer. */
export const sealAfterBatches = async (
  client: pg.ClientBase,
  chain: string,
  place: string | null,
  batches: number,
): Promise<PlacedSeal | undefined> => {
  const { rows } = await client.query<StoredRow>(
    `select s.chain_id, s.batch_no, s.canonical from audit.seal as s
     where s.chain_id = $1 and ($2::bigint is null or s.batch_no > $2)
     order by s.batch_no offset $3 limit 1`,
    [chain, place, batches - 1],
  );
  const [row] = rows;
  return row === undefined ? undefined : { chain, place: row.batch_no, canonical: row.canonical };
};
