import { DatabaseError, Pool, type PoolClient, type QueryResultRow } from 'pg';
import {
  AppError,
  databaseProblem,
  DatabaseProblem,
  foreignCodeOf,
  isAppError,
  type Logger,
  messageOf,
} from '../runtime/index.ts';
import type { ControlErrorCode } from './errors.ts';

/** Longest wait for a connection of the pool, milliseconds. */
const CONNECT_TIMEOUT_MS = 3_000;
/** Longest statement, milliseconds; the server's own limit and, a little later, the client's. */
const STATEMENT_TIMEOUT_MS = 5_000;
const QUERY_TIMEOUT_MS = 7_000;
const POOL_SIZE = 8;
/** A transaction that lost a deadlock is repeated at most so often. */
const DEADLOCK_RETRIES = 3;

const DEADLOCK = '40P01';
export const UNIQUE_VIOLATION = '23505';
/** undefined_table, invalid_schema_name, undefined_column, undefined_function, insufficient_privilege. */
const SCHEMA_STATES: ReadonlySet<string> = new Set(['42P01', '3F000', '42703', '42883', '42501']);
/** Classes: connection, invalid authorization, invalid catalog, resources, operator intervention, system. */
const UNAVAILABLE_CLASSES = ['08', '28', '3D', '53', '57', '58'];

/** Turns what `pg` throws into our errors; data errors (class 22, 23) are left to the caller. */
export const databaseError = (thrown: unknown): unknown => {
  if (isAppError(thrown)) return thrown;
  if (thrown instanceof DatabaseProblem) {
    return new AppError<ControlErrorCode>(
      'ERR_CONTROL_UNAVAILABLE',
      `control database is out of reach: ${thrown.message}`,
      {
        retryable: true,
        cause: thrown,
      },
    );
  }
  const state = thrown instanceof DatabaseError ? (thrown.code ?? '') : undefined;
  if (state !== undefined && SCHEMA_STATES.has(state)) {
    const message = `control database is not migrated or not permitted: ${messageOf(thrown)}`;
    return new AppError<ControlErrorCode>('ERR_CONTROL_SCHEMA', message, { cause: thrown });
  }
  if (state !== undefined && !UNAVAILABLE_CLASSES.includes(state.slice(0, 2))) return thrown;
  // What the server says is said with its state; a socket's error or the client's own timeout has a code that says enough.
  const why =
    state === undefined ? (foreignCodeOf(thrown) ?? messageOf(thrown)) : `${messageOf(thrown)} (${state})`;
  return new AppError<ControlErrorCode>(
    'ERR_CONTROL_UNAVAILABLE',
    `control database is out of reach: ${why}`,
    {
      retryable: true,
      cause: thrown,
    },
  );
};

/** Something that runs SQL: the pool or a transaction. */
export interface Queryable {
  query<Row extends QueryResultRow = QueryResultRow>(
    text: string,
    values?: readonly unknown[],
  ): Promise<readonly Row[]>;
}

/** A transaction in progress. */
export type Transaction = Queryable & { readonly inTransaction: true };

const transactionOn = (client: PoolClient): Transaction => ({
  inTransaction: true,
  async query<Row extends QueryResultRow>(text: string, values: readonly unknown[] = []) {
    return (await client.query<Row>(text, [...values])).rows;
  },
});

/** A pool of connections to the control database. */
export class Database implements Queryable {
  readonly #pool: Pool;
  readonly #url: string;

  constructor(url: string, logger: Logger) {
    this.#url = url;
    this.#pool = new Pool({
      connectionString: url,
      max: POOL_SIZE,
      application_name: 'sallyport-control',
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      statement_timeout: STATEMENT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
      idle_in_transaction_session_timeout: STATEMENT_TIMEOUT_MS * 2,
      keepAlive: true,
      allowExitOnIdle: true,
    });
    // An idle connection that breaks is replaced by the pool; unhandled, the event would end the process.
    this.#pool.on('error', (error) => {
      logger.debug({ cause: messageOf(error) }, 'control database closed an idle connection');
    });
  }

  async query<Row extends QueryResultRow = QueryResultRow>(
    text: string,
    values: readonly unknown[] = [],
  ): Promise<readonly Row[]> {
    try {
      return (await this.#pool.query<Row>(text, [...values])).rows;
    } catch (error) {
      throw this.#errorOf(error);
    }
  }

  #errorOf(error: unknown): unknown {
    return databaseError(isAppError(error) ? error : (databaseProblem(error, this.#url) ?? error));
  }

  /**
   * Runs `work` in one transaction, committed when it resolves. `work` may run again after a deadlock.
   * @throws what `work` throws; AppError ERR_CONTROL_UNAVAILABLE when Postgres does not answer.
   */
  async transaction<Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#transactionOnce(work);
      } catch (error) {
        if (foreignCodeOf(error) !== DEADLOCK || attempt > DEADLOCK_RETRIES) throw this.#errorOf(error);
      }
    }
  }

  async #transactionOnce<Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result> {
    const client = await this.#pool.connect();
    let broken: Error | undefined;
    const onError = (error: Error): void => {
      broken = error;
    };
    client.on('error', onError);
    try {
      await client.query('begin');
      const result = await work(transactionOn(client));
      await client.query('commit');
      return result;
    } catch (error) {
      try {
        await client.query('rollback');
      } catch (rollbackError) {
        // Without a rollback the connection's state is unknown: the pool must not hand it out again.
        broken = rollbackError instanceof Error ? rollbackError : new Error(messageOf(rollbackError));
      }
      throw error;
    } finally {
      client.off('error', onError);
      client.release(broken);
    }
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }
}
