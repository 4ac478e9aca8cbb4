import type pg from 'pg';
import { Backoff, type Clock, foreignCodeOf, type Logger, messageOf, sleep } from '../../runtime/index.ts';
import { newClient, withClient } from '../store/client.ts';
import { nameOf, type PolicyArtifact, readName } from './artifact.ts';
import { Shelf } from './shelf.ts';

const CONNECT_TIMEOUT_MS = 10_000;
/** 64 MiB over a line of 1 Mbit/s take nine minutes. */
const SEND_TIMEOUT_MS = 10 * 60_000;
/** SQLSTATE of `audit.store_bundle` and `audit.store_grants` for what they will never take. */
const REFUSED = 'SA002';

export interface PolicyStoreOptions {
  /** Made when absent (0700); what the database does not have yet waits there, over restarts too. */
  readonly directory: string;
  readonly databaseUrl: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Takes bundles and grants to the audit database, beside everything else: nothing waits for it, and what was handed over
 * is tried until the database has it. The connection lasts as long as there is something to send.
 */
export class PolicyStore {
  readonly #options: PolicyStoreOptions;
  readonly #shelf: Promise<Shelf>;
  /** What could not be put on the shelf: tried as long as this process lives. */
  readonly #unshelved = new Map<string, PolicyArtifact>();
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #keeping: Promise<void> = Promise.resolve();
  #wake: (() => void) | undefined;
  #client: pg.Client | undefined;
  #waiting = 0;
  /** Handed over and not yet on the shelf. */
  #arriving = 0;
  /** Set by whoever puts something here, taken back before the names are read. */
  #isNews = false;
  #error: string | undefined;

  constructor(options: PolicyStoreOptions) {
    this.#options = options;
    this.#shelf = Shelf.open(options.directory);
    this.#done = this.#run();
  }

  /** How many artifacts the database does not have yet, and why not. */
  status(): { readonly waiting: number; readonly error: string | undefined } {
    return { waiting: this.#waiting + this.#arriving, error: this.#error };
  }

  /** Resolves when they will outlive this process, or the log says that they will not. Never rejects. */
  keep(artifacts: readonly PolicyArtifact[]): Promise<void> {
    this.#arriving += artifacts.length;
    // One after the other: the same content may be handed over twice.
    this.#keeping = this.#keeping.then(async () => {
      for (const artifact of artifacts) await this.#keepOne(artifact);
      await this.#count();
      this.#arriving -= artifacts.length;
      this.#isNews = true;
      this.#wake?.();
    });
    return this.#keeping;
  }

  /** What was not sent waits for the next process. */
  async close(): Promise<void> {
    await this.#keeping;
    this.#stop.abort(new Error('closed'));
    this.#wake?.();
    await this.#client?.end().catch(() => undefined);
    await this.#done;
  }

  async #keepOne(artifact: PolicyArtifact): Promise<void> {
    try {
      await (await this.#shelf).put(artifact);
    } catch (thrown) {
      const { kind, sha256 } = artifact;
      this.#options.logger.error(
        { kind, sha256, cause: messageOf(thrown) },
        'what decides is not kept for the audit database over a restart',
      );
      this.#unshelved.set(nameOf(artifact), artifact);
    }
  }

  async #names(): Promise<readonly string[]> {
    const shelved = await this.#shelf.then(
      ({ names }) => names,
      () => [],
    );
    return [...shelved, ...this.#unshelved.keys()];
  }

  async #count(): Promise<void> {
    this.#waiting = (await this.#names()).length;
  }

  async #run(): Promise<void> {
    const backoff = new Backoff();
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        this.#isNews = false;
        const names = await this.#names();
        this.#waiting = names.length;
        if (names.length === 0) await this.#idle();
        else {
          await this.#send(names);
          backoff.reset();
        }
      } catch (thrown) {
        if (this.#stop.signal.aborted) return;
        this.#failed(thrown);
        await sleep(this.#options.clock, backoff.nextDelayMs(), signal).catch(() => undefined);
      }
    }
  }

  /** Until something is handed over. */
  #idle(): Promise<void> {
    if (this.#isNews || this.#stop.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }

  async #send(names: readonly string[]): Promise<void> {
    const config = { connectionTimeoutMillis: CONNECT_TIMEOUT_MS, query_timeout: SEND_TIMEOUT_MS };
    const client = newClient(this.#options.databaseUrl, 'sallyport-policies', config);
    this.#client = client;
    try {
      await withClient(client, async () => {
        const there = await this.#stored(client, names);
        for (const name of names) {
          if (!there.has(name)) await this.#sendOne(client, name);
          await this.#drop(name);
        }
        this.#error = undefined;
      });
    } finally {
      this.#client = undefined;
    }
  }

  /** Which of them need not be sent. */
  async #stored(client: pg.Client, names: readonly string[]): Promise<ReadonlySet<string>> {
    const digests = (kind: PolicyArtifact['kind']): string[] =>
      names.flatMap((name) => {
        const known = readName(name);
        return known?.kind === kind ? [known.sha256] : [];
      });
    const { rows } = await client.query<{ sha256: string }>(
      'select sha256 from audit.stored_content($1::text[], $2::text[]) as s (sha256)',
      [digests('bundle'), digests('grants')],
    );
    const found = new Set(rows.map(({ sha256 }) => sha256));
    return new Set(names.filter((name) => found.has(readName(name)?.sha256 ?? '')));
  }

  async #sendOne(client: pg.Client, name: string): Promise<void> {
    const { logger } = this.#options;
    const artifact = this.#unshelved.get(name) ?? (await (await this.#shelf).read(name));
    if (artifact === undefined) {
      logger.error({ name }, 'a file that waits for the audit database is damaged; it is not sent');
      return;
    }
    const { kind, sha256 } = artifact;
    try {
      if (artifact.kind === 'bundle') {
        const { revision, sequence, content, catalog } = artifact;
        const values = [sha256, revision, sequence, content, JSON.stringify(catalog)];
        await client.query('select audit.store_bundle($1, $2, $3, $4, $5::jsonb)', values);
      } else {
        await client.query('select audit.store_grants($1, $2)', [sha256, artifact.content]);
      }
      logger.info({ kind, sha256 }, 'the audit database has what decides');
    } catch (thrown) {
      if (foreignCodeOf(thrown) !== REFUSED) throw thrown;
      logger.error(
        { kind, sha256, cause: messageOf(thrown) },
        'the audit database will not take what decides; its decisions cannot be made again from there',
      );
    }
  }

  async #drop(name: string): Promise<void> {
    this.#unshelved.delete(name);
    await this.#shelf.then((shelf) => shelf.remove(name)).catch(() => undefined);
    await this.#count();
  }

  #failed(thrown: unknown): void {
    const code = foreignCodeOf(thrown);
    const text = code === undefined ? messageOf(thrown) : `${messageOf(thrown)} (${code})`;
    // The same failure again is no news.
    if (this.#error !== text) {
      this.#options.logger.warn(
        { error: text, waiting: this.#waiting },
        'the audit database does not take what decides; it is kept and tried again',
      );
    }
    this.#error = text;
  }
}
