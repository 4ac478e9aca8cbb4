import type pg from 'pg';
import { type Clock, type Logger, messageOf, type Timer } from '../runtime/index.ts';
import { newClient, withClient } from './store/client.ts';

/** As often as a heartbeat. */
const LOOK_MS = 60_000;
const CONNECT_TIMEOUT_MS = 10_000;
const QUERY_TIMEOUT_MS = 30_000;

/** Something that the database asks writers to record. */
export interface Look {
  /** In the plural, for the log: "requests for retention". */
  readonly name: string;
  /** Records what waits, as much as it likes at a time; calls `refuse` with why something is not recorded. */
  readonly run: (client: pg.Client, refuse: (why: string) => void) => Promise<void>;
}

export interface WitnessOptions {
  /** The writer's own login at the audit database. */
  readonly url: string;
  readonly looks: readonly Look[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Looks for what others ask to have recorded: the word of a writer that it was there. Beside the way of events: it has a
 * connection of its own, each time, and what fails is tried again at the next look.
 */
export class Witness {
  readonly #o: WitnessOptions;
  readonly #warned = new Map<string, string>();
  #timer: Timer | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(options: WitnessOptions) {
    this.#o = options;
  }

  /** Looks now, and then every 60 s. */
  start(): void {
    this.#look();
    this.#timer = this.#o.clock.every(LOOK_MS, () => this.#look()).unref();
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    await this.#looking;
  }

  #look(): void {
    this.#looking = this.#looking
      .then(() => this.#lookAtAll())
      .catch((error: unknown) => {
        const names = this.#o.looks.map(({ name }) => name).join(' and ');
        this.#warn('', messageOf(error), `${names} cannot be looked at`);
      });
  }

  #lookAtAll(): Promise<void> {
    const config = { connectionTimeoutMillis: CONNECT_TIMEOUT_MS, query_timeout: QUERY_TIMEOUT_MS };
    return withClient(newClient(this.#o.url, 'sallyport-audit-witness', config), async (client) => {
      for (const { name, run } of this.#o.looks) {
        const refuse = (why: string): void => this.#warn(name, why, `of ${name}, one is not recorded`);
        // One that cannot be asked for keeps none of the others waiting.
        await run(client, refuse).catch((error: unknown) =>
          this.#warn(name, messageOf(error), `${name} cannot be looked at`),
        );
      }
    });
  }

  #warn(name: string, detail: string, message: string): void {
    if (this.#warned.get(name) !== detail) this.#o.logger.warn({ detail }, message);
    this.#warned.set(name, detail);
  }
}
