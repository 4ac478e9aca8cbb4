import { Socket } from 'node:net';
import pg from 'pg';
import { type Clock, messageOf } from '../runtime/index.ts';
import { databaseError } from './database.ts';

const CONNECT_TIMEOUT_MS = 5_000;
/** A query without an answer for so long means that the connection is dead. */
const ANSWER_WITHIN_MS = 5_000;

/** One connection to Postgres that is kept for LISTEN; everything asked on it also proves that it lives. */
export class ListenConnection {
  /** Resolves with the reason when the connection is over. */
  readonly ended: Promise<string>;
  readonly #client: pg.Client;
  // A socket of our own, because a query that hangs can only be ended by destroying it.
  readonly #socket = new Socket();
  readonly #clock: Clock;
  readonly #onHeard: (sentMs: number) => void;
  #last: Promise<unknown> = Promise.resolve();
  #why: string | undefined;

  /** `onHeard` gets the monotonic time at which each answered query was sent. */
  constructor(url: string, clock: Clock, onHeard: (sentMs: number) => void) {
    this.#clock = clock;
    this.#onHeard = onHeard;
    this.#client = new pg.Client({
      connectionString: url,
      application_name: 'sallyport-listen',
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      stream: () => this.#socket,
    });
    this.#client.on('error', (error) => {
      this.#why ??= messageOf(error);
    });
    this.ended = new Promise((resolve) => {
      const end = (): void => resolve(this.#why ?? 'it closed the connection');
      this.#client.once('end', end);
      this.#socket.once('close', end);
    });
  }

  /** @throws AppError ERR_CONTROL_UNAVAILABLE */
  async open(): Promise<void> {
    try {
      await this.#client.connect();
    } catch (error) {
      throw databaseError(error);
    }
  }

  onNotification(call: (payload: string) => void): void {
    this.#client.on('notification', (message) => call(message.payload ?? ''));
  }

  /** Runs a query after those asked before; the connection is destroyed when it is not answered within 5 s. */
  ask<Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
    const answer = this.#last.then(() => this.#send<Row>(text, values));
    this.#last = answer.catch(() => undefined);
    return answer;
  }

  async #send<Row extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[],
  ): Promise<readonly Row[]> {
    const sentMs = this.#clock.monotonicMs();
    const watchdog = this.#clock.after(ANSWER_WITHIN_MS, () => this.destroy('no answer within 5 s'));
    try {
      const { rows } = await this.#client.query<Row>(text, [...values]);
      this.#onHeard(sentMs);
      return rows;
    } catch (error) {
      throw databaseError(error);
    } finally {
      watchdog.cancel();
    }
  }

  /** Asks for nothing, only to hear; a failure ends the connection. */
  beat(): void {
    this.ask('select 1').catch((error: unknown) => this.destroy(messageOf(error)));
  }

  destroy(why: string): void {
    this.#why ??= why;
    this.#socket.destroy();
  }
}
