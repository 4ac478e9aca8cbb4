import { cleanText, messageOf, type Timer } from '../runtime/index.ts';
import type { ControlContext } from './context.ts';
import type { Queryable } from './database.ts';
import type { KeySlot } from './records.ts';

/** Uses are kept in memory this long before they are written. */
const FLUSH_MS = 5_000;
/** Most distinct (key, source) pairs kept between two writes; above it, sources share the row `*`. */
const MAX_PENDING = 10_000;
/**
 * Sources kept of one key; those seen longest ago share the row `*`. A key that is used from everywhere, or guessed
 * addresses of IPv6, must not fill the database.
 */
export const MAX_SOURCES_PER_KEY = 1_000;
/** Source of uses whose own source is not kept. */
const OTHER_SOURCES = '*';
/** Longest source text. */
const MAX_SOURCE_LENGTH = 64;

/** A use of a key, as admission sees it. */
export interface KeyUse {
  readonly keyId: string;
  readonly connection: string | undefined;
  readonly authRule: string;
  readonly slot: KeySlot;
  /** Observed address, if known. */
  readonly source: string | undefined;
}

interface PendingUse extends KeyUse {
  firstMs: number;
  lastMs: number;
  count: number;
}

/** Counts uses of keys and writes them in batches; what a crash loses is at most 5 s of last-use times. */
export class KeyUsage {
  readonly #context: ControlContext;
  readonly #pending = new Map<string, PendingUse>();
  readonly #timer: Timer;
  #flushing: Promise<void> | undefined;

  constructor(context: ControlContext) {
    this.#context = context;
    this.#timer = context.clock.every(FLUSH_MS, () => void this.flush()).unref();
  }

  note(use: KeyUse): void {
    const source =
      this.#pending.size < MAX_PENDING ? cleanText(use.source ?? '', MAX_SOURCE_LENGTH) : OTHER_SOURCES;
    const id = `${use.keyId} ${source}`;
    const nowMs = this.#context.clock.nowMs();
    const known = this.#pending.get(id);
    if (known === undefined) {
      this.#pending.set(id, { ...use, source, firstMs: nowMs, lastMs: nowMs, count: 1 });
      return;
    }
    known.lastMs = nowMs;
    known.count += 1;
  }

  /** Writes what is pending; keeps it when Postgres does not answer. */
  async flush(): Promise<void> {
    this.#flushing ??= this.#write().finally(() => {
      this.#flushing = undefined;
    });
    await this.#flushing;
  }

  async stop(): Promise<void> {
    this.#timer.cancel();
    await this.flush();
  }

  async #write(): Promise<void> {
    const batch = [...this.#pending.values()];
    if (batch.length === 0) return;
    this.#pending.clear();
    try {
      await this.#context.database.query(
        `insert into control.key_usage (key_id, source, connection, auth_rule, slot, first_used_at, last_used_at, use_count)
         select u.key_id, u.source, u.connection, u.auth_rule, u.slot, u.first_used_at, u.last_used_at, u.use_count
           from jsonb_to_recordset($1::jsonb) as u (key_id text, source text, connection text, auth_rule text,
             slot text, first_used_at timestamptz, last_used_at timestamptz, use_count bigint)
         on conflict (key_id, source) do update set
           last_used_at = greatest(control.key_usage.last_used_at, excluded.last_used_at),
           use_count = control.key_usage.use_count + excluded.use_count`,
        [
          JSON.stringify(
            batch.map((use) => ({
              key_id: use.keyId,
              source: use.source,
              connection: use.connection ?? null,
              auth_rule: use.authRule,
              slot: use.slot,
              first_used_at: new Date(use.firstMs).toISOString(),
              last_used_at: new Date(use.lastMs).toISOString(),
              use_count: use.count,
            })),
          ),
        ],
      );
    } catch (error) {
      this.#context.logger.debug({ cause: messageOf(error) }, 'key usage not written yet');
      for (const use of batch) {
        const id = `${use.keyId} ${use.source ?? ''}`;
        const newer = this.#pending.get(id);
        if (newer === undefined) this.#pending.set(id, use);
        else Object.assign(newer, { firstMs: use.firstMs, count: newer.count + use.count });
      }
      return;
    }
    try {
      await foldSources(this.#context.database, [...new Set(batch.map((use) => use.keyId))]);
    } catch (error) {
      // The uses are written: the next write of these keys folds their sources.
      this.#context.logger.debug({ cause: messageOf(error) }, 'sources of keys not folded yet');
    }
  }
}

/** Adds sources beyond the limit, those seen longest ago, to the row of all others. */
const foldSources = async (database: Queryable, keyIds: readonly string[]): Promise<void> => {
  await database.query(
    `with ranked as (
       select key_id, source, row_number() over (partition by key_id order by last_used_at desc, source) as place
         from control.key_usage where key_id = any($1) and source <> $3::text),
     gone as (
       delete from control.key_usage as u using ranked as r
        where r.place > $2 and u.key_id = r.key_id and u.source = r.source returning u.*)
     insert into control.key_usage
       (key_id, source, connection, auth_rule, slot, first_used_at, last_used_at, use_count)
     select key_id, $3::text, max(connection), max(auth_rule), max(slot), min(first_used_at), max(last_used_at),
       sum(use_count) from gone group by key_id
     on conflict (key_id, source) do update set
       first_used_at = least(control.key_usage.first_used_at, excluded.first_used_at),
       last_used_at = greatest(control.key_usage.last_used_at, excluded.last_used_at),
       use_count = control.key_usage.use_count + excluded.use_count`,
    [keyIds, MAX_SOURCES_PER_KEY, OTHER_SOURCES],
  );
};

/** Last use of a key slot, with its sources. */
export interface KeyUsageRecord {
  readonly keyId: string;
  readonly connection: string | undefined;
  readonly authRule: string;
  readonly slot: KeySlot;
  readonly lastUsedAt: Date;
  readonly useCount: number;
  /** The 20 that were seen last. */
  readonly sources: readonly { readonly source: string; readonly last_used_at: string }[];
}

/** Usage of one key, of the keys of a connection or of all: at most `limit` keys above `after`, by key id. */
export const keyUsage = async (
  context: Pick<ControlContext, 'database'>,
  of: { readonly keyId?: string | undefined; readonly connection?: string | undefined },
  after: string,
  limit: number,
): Promise<readonly KeyUsageRecord[]> => {
  const rows = await context.database.query<{
    key_id: string;
    connection: string | null;
    auth_rule: string;
    slot: KeySlot;
    last_used_at: Date;
    use_count: string;
    sources: { source: string; last_used_at: string }[];
  }>(
    `select key_id, max(connection) as connection, max(auth_rule) as auth_rule, max(slot) as slot,
        max(last_used_at) as last_used_at, sum(use_count) as use_count,
        to_jsonb((array_agg(jsonb_build_object('source', source, 'last_used_at', last_used_at)
          order by last_used_at desc))[1:20]) as sources
       from control.key_usage
      where ($1::text is null or key_id = $1) and ($2::text is null or connection = $2)
        and key_id collate "C" > $3
      group by key_id order by key_id collate "C" limit $4`,
    [of.keyId ?? null, of.connection ?? null, after, limit],
  );
  return rows.map((row) => ({
    keyId: row.key_id,
    connection: row.connection ?? undefined,
    authRule: row.auth_rule,
    slot: row.slot,
    lastUsedAt: row.last_used_at,
    useCount: Number(row.use_count),
    sources: row.sources,
  }));
};
