import { cleanText, messageOf, type Timer } from '../runtime/index.ts';
import type { ControlContext } from './context.ts';
import type { KeySlot } from './records.ts';

/** Uses are kept in memory this long before they are written. */
const FLUSH_MS = 5_000;
/** Most distinct (key, source) pairs kept between two writes; above it, sources share the row `*`. */
const MAX_PENDING = 10_000;
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
    const source = this.#pending.size < MAX_PENDING ? cleanText(use.source ?? '', MAX_SOURCE_LENGTH) : '*';
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
    }
  }
}

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

/** Usage of one key, or of every key of a connection; the last used first, at most 1,000. */
export const keyUsage = async (
  context: Pick<ControlContext, 'database'>,
  of: { readonly keyId?: string | undefined; readonly connection?: string | undefined },
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
      group by key_id order by max(last_used_at) desc limit 1000`,
    [of.keyId ?? null, of.connection ?? null],
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
