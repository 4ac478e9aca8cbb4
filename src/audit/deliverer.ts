import pg from 'pg';
import { Backoff, type Clock, foreignCodeOf, type Logger, messageOf, sleep } from '../runtime/index.ts';
import type { OutgoingBatches } from './spool/messages.ts';
import { type RecentHeads, readRecentHeads } from './recent-heads.ts';
import type { SpoolClient } from './spool/spool-client.ts';

/** Canonical bytes of one round trip, about. */
const MAX_CALL_BYTES = 4 * 1024 * 1024;
const CONNECT_TIMEOUT_MS = 10_000;
const QUERY_TIMEOUT_MS = 60_000;
/** The longest pause between two tries. */
const MAX_RETRY_MS = 5_000;

type Outcome = 'stored' | 'acknowledged' | 'fork' | 'gap' | 'not_owner';

interface AppendRow {
  readonly chain_id: string;
  readonly batch_no: string;
  readonly outcome: Outcome;
  readonly head_batch: string | null;
  readonly head_seal: string | null;
}

export type RefusalReason = 'fork' | 'gap' | 'not_owner' | 'head_differs' | 'spool_damaged';

const isTaken = (row: AppendRow): boolean => row.outcome === 'stored' || row.outcome === 'acknowledged';

const refusalOf = (outcome: Outcome): RefusalReason =>
  outcome === 'gap' || outcome === 'not_owner' ? outcome : 'fork';

/** Asked again after an await: the loop's own condition says nothing about what happened meanwhile. */
const stopped = (signal: AbortSignal): boolean => signal.aborted;

export interface DelivererOptions {
  readonly url: string;
  readonly spool: SpoolClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The database refuses a chain; resolves when the spool has set it aside. */
  onRefused(chain: string, reason: RefusalReason, detail: string): Promise<void>;
}

/** Takes sealed batches from the spool to `audit.append`, in order, until it is stopped. */
export class Deliverer {
  readonly #o: DelivererOptions;
  readonly #pool: pg.Pool;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #wake: (() => void) | undefined;
  #pending = true;
  #status: 'connecting' | 'ok' | 'failing' = 'connecting';
  #error: string | undefined;

  constructor(options: DelivererOptions) {
    this.#o = options;
    this.#pool = new pg.Pool({
      connectionString: options.url,
      max: 1,
      application_name: 'sallyport-audit',
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
      keepAlive: true,
    });
    this.#pool.on('error', (error) => this.#failed(error));
    this.#done = this.#run();
  }

  get status(): 'connecting' | 'ok' | 'failing' {
    return this.#status;
  }

  get error(): string | undefined {
    return this.#error;
  }

  /** Heads of other chains; undefined when the database does not answer. Never rejects. */
  async recentHeads(ownChain: string): Promise<RecentHeads | undefined> {
    if (this.#status !== 'ok') return undefined;
    try {
      return await readRecentHeads(this.#pool, ownChain);
    } catch (thrown) {
      this.#o.logger.debug({ error: messageOf(thrown) }, 'heads of other chains were not read');
      return undefined;
    }
  }

  /** There may be something to deliver. */
  wake(): void {
    this.#pending = true;
    this.#wake?.();
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('stopped'));
    this.#wake?.();
    await this.#done;
    await this.#pool.end().catch(() => undefined);
  }

  async #run(): Promise<void> {
    const backoff = new Backoff();
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        if (await this.#step()) backoff.reset();
        else await this.#idle();
      } catch (thrown) {
        if (stopped(signal)) return;
        this.#failed(thrown);
        const delayMs = Math.min(MAX_RETRY_MS, backoff.nextDelayMs());
        await sleep(this.#o.clock, delayMs, signal).catch(() => undefined);
      }
    }
  }

  #idle(): Promise<void> {
    if (this.#pending || this.#stop.signal.aborted) {
      this.#pending = false;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        this.#pending = false;
        resolve();
      };
    });
  }

  /** One round trip; false when there was nothing to deliver. */
  async #step(): Promise<boolean> {
    this.#pending = false;
    const { outgoing, error, damaged } = await this.#o.spool.pull(MAX_CALL_BYTES);
    if (damaged !== undefined) {
      await this.#o.onRefused(damaged, 'spool_damaged', error ?? '');
      return true;
    }
    if (error !== undefined) throw new Error(error);
    if (outgoing === undefined) return false;
    const rows = await this.#append(outgoing);
    if (this.#status !== 'ok') this.#o.logger.info('audit database takes events');
    this.#status = 'ok';
    this.#error = undefined;
    for (const [index, row] of rows.entries()) {
      const sent = outgoing.batches[index];
      if (sent === undefined) break;
      const next = rows[index + 1];
      const lastOfChain = next?.chain_id !== row.chain_id || !isTaken(next);
      if (isTaken(row)) {
        if (Number(row.head_batch) === sent.batch && row.head_seal !== sent.digest) {
          await this.#o.onRefused(
            sent.chain,
            'head_differs',
            `the database's head is ${row.head_seal ?? 'none'}`,
          );
          return true;
        }
        if (lastOfChain) this.#o.spool.acknowledge(sent.chain, sent.batch);
      } else {
        const head = `batch ${sent.batch}; the database's head is batch ${row.head_batch ?? 'unknown'}`;
        await this.#o.onRefused(sent.chain, refusalOf(row.outcome), head);
        return true;
      }
    }
    return true;
  }

  async #append(outgoing: OutgoingBatches): Promise<AppendRow[]> {
    const { rows } = await this.#pool.query<AppendRow>({
      name: 'audit.append',
      text: `select chain_id, batch_no, outcome, head_batch, encode(head_seal, 'hex') as head_seal
        from audit.append($1::text[], $2::bytea, $3::bytea, $4::integer[], $5::timestamptz)`,
      values: [
        outgoing.batches.map((batch) => batch.seal),
        Buffer.concat(outgoing.batches.map((batch) => batch.signature)),
        Buffer.from(outgoing.events.buffer, outgoing.events.byteOffset, outgoing.events.byteLength),
        outgoing.lengths,
        new Date(this.#o.clock.nowMs()).toISOString(),
      ],
    });
    return rows;
  }

  #failed(thrown: unknown): void {
    const code = foreignCodeOf(thrown);
    const text = code === undefined ? messageOf(thrown) : `${messageOf(thrown)} (${code})`;
    if (this.#status !== 'failing' || this.#error !== text) {
      this.#o.logger.warn({ error: text }, 'audit database does not take events; the spool keeps them');
    }
    this.#status = 'failing';
    this.#error = text;
  }
}
