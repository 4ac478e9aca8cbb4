import type pg from 'pg';
import { foreignCodeOf, messageOf } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { newClient } from '../store/client.ts';
import { refusalText } from '../store/no-schema.ts';

/** Seals fetched in one round trip, at about 1 KiB each. */
const SEAL_PAGE = 200;
/** Events in memory at a time, at 2 to 8 KiB each; one batch is never split and holds 200. */
const MAX_GROUP_EVENTS = 2_000;

export interface ExportInterval {
  /** Included, and not included; RFC 3339. Undefined: no bound. */
  readonly from: string | undefined;
  readonly to: string | undefined;
}

/** One event as the database stores it. */
export interface ExportedEvent {
  readonly chain: string;
  readonly seq: number;
  readonly canonical: Buffer;
  /** When the database stored it, RFC 3339 with microseconds. */
  readonly recordedAt: string;
  /** Site that it was imported from. */
  readonly site: string | null;
  readonly clockSkewMs: number | null;
  readonly projectionError: string | null;
  /** Within the interval; an event of its batch may be outside. */
  readonly within: boolean;
}

/** A sealed batch with its events. */
export interface ExportedBatch {
  readonly chain: string;
  readonly batch: number;
  readonly seal: Buffer;
  readonly signature: Buffer;
  readonly site: string | null;
  readonly events: readonly ExportedEvent[];
}

interface SealRow {
  readonly chain_id: string;
  readonly batch_no: string;
  readonly first_seq: string;
  readonly last_seq: string;
  readonly event_count: number;
  readonly canonical: Buffer;
  readonly signature: Buffer;
  readonly recorded: string;
  readonly site: string | null;
}

interface EventRow {
  readonly place: string;
  readonly seq: string;
  readonly canonical: Buffer;
  readonly recorded: string;
  readonly site: string | null;
  readonly clock_skew_ms: number | null;
  readonly projection_error: string | null;
  readonly within: boolean;
}

/** A batch belongs to the interval when one of its events does; an empty final one, when it was sealed in it. */
const OVERLAPS = `coalesce(s.last_at, s.sealed_at) >= $1::timestamptz and coalesce(s.first_at, s.sealed_at) < $2::timestamptz`;

const COLUMNS = `s.chain_id, s.batch_no, s.first_seq, s.last_seq, s.event_count, s.canonical, s.signature,
  s.recorded_at::text as recorded, k.site`;

/** In the order of storing: what a reader of decisions and of logs expects. */
const BY_TIME = `select ${COLUMNS} from audit.seal as s left join audit.chain as k on k.chain_id = s.chain_id
  where ${OVERLAPS} order by s.recorded_at, s.chain_id, s.batch_no`;

/** Chain by chain without gaps: what a verifier needs. The chains of other sites are theirs to export. */
const BY_CHAIN = `select ${COLUMNS}
  from audit.seal as s
  join (
    select s.chain_id, min(s.batch_no) as low, max(s.batch_no) as high from audit.seal as s
    where ${OVERLAPS} group by s.chain_id
  ) as r on r.chain_id = s.chain_id and s.batch_no between r.low and r.high
  left join audit.chain as k on k.chain_id = s.chain_id
  where k.site is null
  order by s.epoch, s.chain_id, s.batch_no`;

/** By primary key and partition: as fast in a year of partitions as in one. */
const EVENTS = `select x.place, e.seq, e.canonical, e.recorded_at::text as recorded, e.site, e.clock_skew_ms,
    e.projection_error,
    (e.occurred_at is null or (e.occurred_at >= $5::timestamptz and e.occurred_at < $6::timestamptz)) as within
  from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[]) with ordinality
    as x (chain_id, first_seq, last_seq, recorded_at, place)
  cross join lateral (
    select * from audit.event as e
    where e.chain_id = x.chain_id and e.seq between x.first_seq and x.last_seq and e.recorded_at = x.recorded_at
  ) as e
  order by x.place, e.seq`;

/** `2026-01-02 03:04:05.678901+00` as RFC 3339. */
const rfc3339 = (text: string): string => text.replace(' ', 'T').replace(/\+00$/, 'Z');

/** Seals of a page in groups that together hold about so many events. */
const groupsOf = (rows: readonly SealRow[]): SealRow[][] => {
  const groups: SealRow[][] = [];
  let count = Number.POSITIVE_INFINITY;
  for (const row of rows) {
    if (count + row.event_count > MAX_GROUP_EVENTS) {
      groups.push([]);
      count = 0;
    }
    groups.at(-1)?.push(row);
    count += row.event_count;
  }
  return groups;
};

/** What an export reads: one moment of the database, whatever is written meanwhile. */
export class ExportSnapshot {
  readonly #client: pg.Client;

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  /** @throws AppError ERR_AUDIT_DATABASE */
  static async open(databaseUrl: string): Promise<ExportSnapshot> {
    const client = newClient(databaseUrl, 'sallyport-audit-export');
    try {
      await client.connect();
      await client.query("set timezone to 'UTC'");
      await client.query('begin transaction isolation level repeatable read read only');
    } catch (cause) {
      await client.end().catch(() => undefined);
      throw auditError('ERR_AUDIT_DATABASE', `the audit database is out of reach: ${messageOf(cause)}`, {
        cause,
        retryable: true,
      });
    }
    return new ExportSnapshot(client);
  }

  /** The login that it is read as. @throws AppError ERR_AUDIT_DATABASE */
  async login(): Promise<string> {
    const rows = await this.#rows<{ login: string }>('select session_user::text as login');
    return rows[0]?.login ?? '';
  }

  /** How many events the batches of an interval hold, for showing progress. @throws AppError ERR_AUDIT_DATABASE */
  async countEvents(interval: ExportInterval): Promise<number> {
    const rows = await this.#rows<{ n: string | null }>(
      `select sum(s.event_count) as n from audit.seal as s where ${OVERLAPS}`,
      boundsOf(interval),
    );
    return Number(rows[0]?.n ?? 0);
  }

  /**
   * The sealed batches of an interval, in groups of at most about 2,000 events: all that is in memory at a time. With
   * `byChain` the chains written here, one after the other, each without gaps; otherwise everything, imported chains
   * too, in the order in which it was stored.
   * @throws AppError ERR_AUDIT_DATABASE
   */
  async *batches(
    interval: ExportInterval,
    byChain: boolean,
  ): AsyncGenerator<ExportedBatch[], void, undefined> {
    const bounds = boundsOf(interval);
    await this.#rows(`declare seals no scroll cursor for ${byChain ? BY_CHAIN : BY_TIME}`, bounds);
    for (;;) {
      const rows = await this.#rows<SealRow>(`fetch ${SEAL_PAGE} from seals`);
      for (const group of groupsOf(rows)) yield this.#eventsOf(group, bounds);
      if (rows.length < SEAL_PAGE) break;
    }
    await this.#rows('close seals');
  }

  async close(): Promise<void> {
    await this.#client.end().catch(() => undefined);
  }

  async #eventsOf(seals: readonly SealRow[], bounds: readonly string[]): Promise<ExportedBatch[]> {
    const rows = await this.#rows<EventRow>(EVENTS, [
      seals.map((seal) => seal.chain_id),
      seals.map((seal) => seal.first_seq),
      seals.map((seal) => seal.last_seq),
      seals.map((seal) => seal.recorded),
      ...bounds,
    ]);
    const events = seals.map((): ExportedEvent[] => []);
    for (const row of rows) {
      const place = Number(row.place) - 1;
      events[place]?.push({
        chain: seals[place]?.chain_id ?? '',
        seq: Number(row.seq),
        canonical: row.canonical,
        recordedAt: rfc3339(row.recorded),
        site: row.site,
        clockSkewMs: row.clock_skew_ms,
        projectionError: row.projection_error,
        within: row.within,
      });
    }
    return seals.map((seal, index) => ({
      chain: seal.chain_id,
      batch: Number(seal.batch_no),
      seal: seal.canonical,
      signature: seal.signature,
      site: seal.site,
      events: events[index] ?? [],
    }));
  }

  async #rows<T extends object>(text: string, values: readonly unknown[] = []): Promise<T[]> {
    try {
      return (await this.#client.query<T>(text, [...values])).rows;
    } catch (cause) {
      const code = foreignCodeOf(cause);
      const hint = code === '42501' ? '; exports read the tables: role audit_verify or the owner' : '';
      throw auditError(
        'ERR_AUDIT_DATABASE',
        `the audit database cannot be exported: ${refusalText(cause)}${hint}`,
        {
          cause,
          retryable: code !== '42501',
        },
      );
    }
  }
}

const boundsOf = (interval: ExportInterval): string[] => [
  interval.from ?? '-infinity',
  interval.to ?? 'infinity',
];
