import pg from 'pg';
import { foreignCodeOf, messageOf } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { newClient } from '../store/client.ts';
import { NO_SCHEMA } from '../store/no-schema.ts';

/** Longest that one statement of a reader may take. */
const STATEMENT_TIMEOUT_MS = 120_000;

export type Row = Readonly<Record<string, unknown>>;

export interface QueryResult {
  /** Column names in order. */
  readonly columns: readonly string[];
  readonly rows: readonly Row[];
}

/** bigint and numeric as numbers where they are safe, timestamps in RFC 3339, bytea as hex. */
const plain = (value: unknown): unknown => {
  if (value instanceof Date) return value.toISOString();
  if (Buffer.isBuffer(value)) return value.toString('hex');
  return value;
};

const INT8_OID = 20;
const TIMESTAMP_OID = 1114;

const parserOf = pg.types.getTypeParser as (oid: number, format?: 'text' | 'binary') => unknown;

const types = {
  getTypeParser: (oid: number, format?: 'text' | 'binary'): unknown => {
    if (oid === INT8_OID) {
      return (text: string) => (Number.isSafeInteger(Number(text)) ? Number(text) : text);
    }
    if (oid === TIMESTAMP_OID) return (text: string) => text.replace(' ', 'T');
    return parserOf(oid, format);
  },
};

/** How PostgreSQL names what it refuses; a digit tells it from EPIPE. */
const SQLSTATE = /^(?=.*\d)[0-9A-Z]{5}$/;

/** A connection for questions: every statement runs alone, in a transaction that cannot write. */
export class AuditReader {
  readonly #client: pg.Client;

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  /** @throws AppError ERR_AUDIT_DATABASE */
  static async connect(databaseUrl: string): Promise<AuditReader> {
    const client = newClient(databaseUrl, 'sallyport-audit', {
      statement_timeout: STATEMENT_TIMEOUT_MS,
      types,
    });
    try {
      await client.connect();
      await client.query('set default_transaction_read_only to on');
      await client.query("set timezone to 'UTC'");
    } catch (cause) {
      await client.end().catch(() => undefined);
      throw auditError('ERR_AUDIT_DATABASE', `the audit database is out of reach: ${messageOf(cause)}`, {
        cause,
        retryable: true,
      });
    }
    return new AuditReader(client);
  }

  /**
   * Runs one statement read-only.
   * @throws AppError ERR_AUDIT_QUERY_FAILED with the database's message; ERR_AUDIT_DATABASE when the connection ends first.
   */
  async query(sql: string, values: readonly unknown[] = []): Promise<QueryResult> {
    try {
      await this.#client.query('begin transaction read only');
      // The extended protocol takes one statement only: nothing can end the transaction and go on.
      const result = await this.#client.query<Record<string, unknown>>({
        text: sql,
        values: [...values],
        queryMode: 'extended',
      } as pg.QueryConfig);
      await this.#client.query('rollback');
      const rows = result.rows.map((row) =>
        Object.fromEntries(Object.entries(row).map(([name, value]) => [name, plain(value)])),
      );
      return { columns: result.fields.map((field) => field.name), rows };
    } catch (cause) {
      await this.#client.query('rollback').catch(() => undefined);
      const code = foreignCodeOf(cause);
      // A refusal carries an SQLSTATE; without one the answer never came.
      if (code === undefined || !SQLSTATE.test(code)) {
        throw auditError(
          'ERR_AUDIT_DATABASE',
          `the connection to the audit database ended under the query: ${messageOf(cause)}`,
          { cause, retryable: true },
        );
      }
      const text = `${messageOf(cause)} (${code})${NO_SCHEMA[code] ?? ''}`;
      throw auditError('ERR_AUDIT_QUERY_FAILED', `the audit database refuses the query: ${text}`, { cause });
    }
  }

  async close(): Promise<void> {
    await this.#client.end().catch(() => undefined);
  }
}

/** Runs one read-only statement on a connection of its own. @throws AppError ERR_AUDIT_DATABASE, ERR_AUDIT_QUERY_FAILED */
export const queryAudit = async (
  databaseUrl: string,
  sql: string,
  values: readonly unknown[] = [],
): Promise<QueryResult> => {
  const reader = await AuditReader.connect(databaseUrl);
  try {
    return await reader.query(sql, values);
  } finally {
    await reader.close();
  }
};
