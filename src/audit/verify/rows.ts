import type pg from 'pg';

export interface SealRow {
  readonly chain_id: string;
  /** `batch_no` as the database writes it: numbers of strangers may not be safe integers. */
  readonly place: string;
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
  /** Microseconds since 1970. */
  readonly sealed_us: number;
  readonly epoch: number;
  readonly final: boolean;
  readonly canonical: Buffer;
  readonly leaves: readonly Buffer[] | null;
  readonly recorded_at: string;
  readonly first_at: string | null;
  readonly last_at: string | null;
}

export interface EventRow {
  readonly seq: number;
  readonly recorded_at: string;
  readonly canonical: Buffer;
  /** As text that sorts by time; with columns only. */
  readonly occurred_at?: string | null;
  readonly columns?: Readonly<Record<string, unknown>>;
}

export interface ChainRow {
  readonly chain_id: string;
  /** Rows of seals, and the sum of the events that their columns claim: how much there is to do. */
  readonly seals: number;
  readonly claimed: number;
  /** What audit.chain says; undefined when it does not know the chain. */
  readonly row: ChainState | undefined;
}

interface ChainCounts {
  readonly chain_id: string;
  readonly seals: string;
  readonly claimed: string;
}

export interface ChainState {
  readonly last_batch: number;
  readonly last_seq: number;
  readonly head: Buffer | null;
  readonly final: boolean;
  readonly events: number;
  readonly dropped: number;
  /** Site that it was imported from; null for one written here. */
  readonly site: string | null;
}

/** Rows of events in memory at a time; an event has at most 256 KiB. */
const EVENT_PAGE = 2_000;

const NUMBERS = [
  'batch_no',
  'first_seq',
  'last_seq',
  'event_count',
  'dropped',
  'epoch',
  'sealed_us',
  'seq',
  'last_batch',
  'events',
];

/** Postgres gives bigint as text; all of ours are safe integers. */
const withNumbers = (row: Record<string, unknown>): unknown => {
  for (const name of NUMBERS) {
    if (typeof row[name] === 'string') row[name] = Number(row[name]);
  }
  return row;
};

interface LeavesRow {
  readonly place: string;
  readonly leaves: Buffer;
}

/** Leaves of batches of a chain by their places. */
const leavesOf = async (
  client: pg.ClientBase,
  chain: string,
  places: readonly string[],
): Promise<Map<string, Buffer[]>> => {
  const byPlace = new Map<string, Buffer[]>();
  const { rows } = await client.query<LeavesRow>(
    `select l.batch_no::text as place, l.leaves from audit.seal_leaves as l
     where l.chain_id = $1 and l.batch_no = any ($2::bigint[])`,
    [chain, places],
  );
  for (const { place, leaves } of rows) byPlace.set(place, [...(byPlace.get(place) ?? []), leaves]);
  return byPlace;
};

export interface SealRange {
  readonly chain: string;
  /** `batch_no` before the first; null from the chain's first. */
  readonly after: string | null;
  /** `batch_no` of the last; null to the chain's last. */
  readonly upTo: string | null;
}

/** Seals of a range, with their leaves, in order. */
export const sealsOf = async (
  client: pg.ClientBase,
  { chain, after, upTo }: SealRange,
  limit: number,
): Promise<SealRow[]> => {
  const { rows } = await client.query<Record<string, unknown>>(
    `select s.chain_id, s.batch_no::text as place, s.batch_no, s.first_seq, s.last_seq, s.event_count, s.dropped,
       s.root, s.seal, s.prev_seal, s.prev_chain, s.signer, s.signature, s.epoch, s.final, s.canonical,
       floor(extract(epoch from s.sealed_at) * 1000000)::bigint as sealed_us, s.recorded_at::text,
       s.first_at::text, s.last_at::text
     from audit.seal as s
     where s.chain_id = $1 and ($2::bigint is null or s.batch_no > $2) and ($3::bigint is null or s.batch_no <= $3)
     order by s.batch_no limit $4`,
    [chain, after, upTo, limit],
  );
  const leaves = await leavesOf(
    client,
    chain,
    rows.map((row) => String(row['place'])),
  );
  return rows.map((row) => ({
    ...(withNumbers(row) as SealRow),
    leaves: leaves.get(String(row['place'])) ?? null,
  }));
};

/** Names of the columns of audit.event but for the evidence itself, quoted. */
export const eventColumns = async (client: pg.ClientBase): Promise<string[]> => {
  const { rows } = await client.query<{ name: string }>(
    `select quote_ident(a.attname) as name from pg_attribute as a
     where a.attrelid = 'audit.event'::regclass and a.attnum > 0 and not a.attisdropped and a.attname <> 'canonical'
     order by a.attnum`,
  );
  return rows.map(({ name }) => name);
};

/** Where a page of events ended: the text of the key. */
interface EventKey {
  readonly seq: string;
  readonly recorded_at: string;
}

interface EventText extends EventKey {
  /** In base64: as `bytea` it would be half as long again, and slower to write and to read. */
  readonly canonical: string;
  readonly occurred_at?: string | null;
  readonly columns?: string;
}

/** Behind a key, or behind a sequence number; up to a sequence number. */
interface EventRange {
  readonly chain: string;
  readonly after: EventKey | number | null;
  readonly upTo: number;
}

/** Postgres' greatest bigint. */
const MAX_BIGINT = '9223372036854775807';

const eventsOf = async (
  client: pg.ClientBase,
  { chain, after, upTo }: EventRange,
  columns: readonly string[] | undefined,
): Promise<EventText[]> => {
  const limit = Number.isSafeInteger(upTo) ? String(upTo) : MAX_BIGINT;
  const given: unknown[] = [chain, limit, EVENT_PAGE];
  let behind = '';
  if (typeof after === 'number') {
    behind = 'and e.seq > $4';
    given.push(after);
  } else if (after !== null) {
    behind = 'and e.seq >= $4 and (e.seq, e.recorded_at) > ($4, $5::timestamptz)';
    given.push(after.seq, after.recorded_at);
  }
  // Without the canonical bytes, which would be written as JSON too.
  const [select, from] =
    columns === undefined
      ? ['', '']
      : [
          ', e.occurred_at::text, row_to_json(c)::text as columns',
          `cross join lateral (select ${columns.map((name) => `e.${name}`).join(', ')}) as c`,
        ];
  const { rows } = await client.query<EventText>(
    `select e.seq::text, e.recorded_at::text, encode(e.canonical, 'base64') as canonical${select}
     from audit.event as e ${from}
     where e.chain_id = $1 and e.seq <= $2::bigint ${behind}
     order by e.seq, e.recorded_at limit $3`,
    given,
  );
  return rows;
};

const eventRow = ({ seq, recorded_at, canonical, occurred_at, columns }: EventText): EventRow => ({
  seq: Number(seq),
  recorded_at,
  canonical: Buffer.from(canonical, 'base64'),
  ...(columns === undefined
    ? {}
    : { occurred_at: occurred_at ?? null, columns: JSON.parse(columns) as Record<string, unknown> }),
});

/** Events of one chain in their order, a page in memory at a time. */
export class EventReader {
  readonly #client: pg.ClientBase;
  readonly #chain: string;
  readonly #columns: readonly string[] | undefined;
  #page: readonly EventText[] = [];
  #at = 0;
  #after: EventKey | number | null;
  /** Everything up to here is in the page or was taken. */
  #readTo = Number.NEGATIVE_INFINITY;

  /** Begins behind a sequence number; `columns` as `eventColumns` names them, when they are wanted. */
  constructor(
    client: pg.ClientBase,
    chain: string,
    behind: number | null,
    columns: readonly string[] | undefined,
  ) {
    this.#client = client;
    this.#chain = chain;
    this.#after = behind;
    this.#columns = columns;
  }

  /** Takes the events up to a sequence number, `each` one at a time; reads on to `ahead`, which will be asked for next. */
  async takeUpTo(seq: number, ahead: number, each: (event: EventRow) => void): Promise<void> {
    for (;;) {
      for (; this.#at < this.#page.length; this.#at += 1) {
        const event = this.#page[this.#at];
        if (event === undefined || Number(event.seq) > seq) return;
        each(eventRow(event));
      }
      if (this.#readTo >= seq) return;
      const upTo = Math.max(seq, ahead);
      this.#page = await eventsOf(
        this.#client,
        { chain: this.#chain, after: this.#after, upTo },
        this.#columns,
      );
      this.#at = 0;
      const last = this.#page.at(-1);
      if (last !== undefined) this.#after = { seq: last.seq, recorded_at: last.recorded_at };
      if (this.#page.length < EVENT_PAGE) this.#readTo = upTo;
    }
  }
}

/** Every chain that audit.chain knows, or that some seal names, in the order of their ids. */
export const allChains = async (client: pg.ClientBase): Promise<ChainRow[]> => {
  const { rows } = await client.query<Record<string, unknown>>(
    `select coalesce(k.chain_id, s.chain_id) as chain_id, k.last_batch, k.last_seq, k.head, k.final, k.events,
       k.dropped, k.site, coalesce(s.seals, 0) as seals, coalesce(s.claimed, 0) as claimed
     from audit.chain as k
     full join (
       select chain_id, count(*) as seals, sum(event_count) as claimed from audit.seal group by chain_id
     ) as s on s.chain_id = k.chain_id
     order by 1`,
  );
  return rows.map((row) => {
    const { chain_id, seals, claimed, ...state } = withNumbers(row) as ChainState & ChainCounts;
    const known = (state.last_batch as number | null) === null ? undefined : state;
    return { chain_id, seals: Number(seals), claimed: Number(claimed), row: known };
  });
};

/** Events of chains without a seal, which nothing covers. */
export const strayEvents = async (
  client: pg.ClientBase,
): Promise<{ chain_id: string; seq: number; count: number }[]> => {
  const { rows } = await client.query<{ chain_id: string; seq: string; count: string }>(
    `select e.chain_id, min(e.seq) as seq, count(*) as count
     from audit.event as e
     where not exists (select from audit.seal as s where s.chain_id = e.chain_id)
     group by e.chain_id`,
  );
  return rows.map((row) => ({ chain_id: row.chain_id, seq: Number(row.seq), count: Number(row.count) }));
};
