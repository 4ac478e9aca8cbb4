import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { foreignCodeOf, isAppError, messageOf } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { newClient } from './client.ts';

/** Table of applied migrations, in the schema that they are of. */
const MIGRATIONS_TABLE = 'schema_migrations';
const ROLES_FILE = 'roles.sql';
const NO_ROLES =
  '; give a login that may make roles, or let somebody who may run what `sallyport migrate --no-roles` prints';
const MIGRATION_NAME = /^\d{4}_[a-z0-9_]+\.sql$/;

export interface MigrateOptions {
  /** Of a login that may create schemas and, with `roles`, roles. */
  readonly databaseUrl: string;
  readonly schema: 'audit' | 'control';
  /** Folder of numbered `.sql` files and, optionally, `roles.sql`. */
  readonly directory: string;
  /** Run `roles.sql` first; without it, somebody else has made the roles. */
  readonly roles: boolean;
}

export interface MigrationResult {
  readonly schema: string;
  /** Names applied now, in order; empty when the schema was current. */
  readonly applied: readonly string[];
  /** The newest migration in the database. */
  readonly version: string | undefined;
}

const namesIn = (directory: string): string[] =>
  readdirSync(directory)
    .filter((name) => MIGRATION_NAME.test(name))
    .map((name) => name.slice(0, -'.sql'.length))
    .sort();

/** The role SQL of a schema, to be run by somebody who may make roles; empty when it has none. */
export const roleSql = (directory: string): string => {
  const file = join(directory, ROLES_FILE);
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
};

const appliedIn = async (client: pg.Client, schema: string): Promise<string[]> => {
  try {
    const { rows } = await client.query<{ name: string }>(
      `select name from ${client.escapeIdentifier(schema)}.${MIGRATIONS_TABLE} order by id`,
    );
    return rows.map((row) => row.name);
  } catch (thrown) {
    // No schema or no table yet.
    if (['42P01', '3F000'].includes(foreignCodeOf(thrown) ?? '')) return [];
    throw thrown;
  }
};

/** SQLSTATE classes and socket codes that say the server was not reached. */
const unreachable = (thrown: unknown): boolean => {
  const code = foreignCodeOf(thrown) ?? '';
  return /^(ECONN|ENOTFOUND|EAI_|ETIMEDOUT|EHOST|ENET|08|57P)/.test(code);
};

/**
 * Brings a schema up to the migrations in `directory`, forward only, one transaction.
 * @throws AppError ERR_AUDIT_SCHEMA_NEWER when the database has migrations that the directory does not;
 * ERR_AUDIT_DATABASE when it cannot be reached; ERR_AUDIT_MIGRATION_FAILED otherwise.
 */
export const migrate = async (options: MigrateOptions): Promise<MigrationResult> => {
  const { schema, directory } = options;
  const known = namesIn(directory);
  const client = newClient(options.databaseUrl, 'sallyport-migrate');
  try {
    await client.connect();
    const before = await appliedIn(client, schema);
    const unknown = before.filter((name) => !known.includes(name));
    if (unknown.length > 0) {
      throw auditError(
        'ERR_AUDIT_SCHEMA_NEWER',
        `schema ${schema} is newer than this version: it has ${unknown.join(', ')}`,
      );
    }
    if (options.roles && before.length < known.length) await client.query(roleSql(directory));
    // Loaded only here: everything that opens an audit log imports this folder, and few of them migrate.
    const { runner } = await import('node-pg-migrate');
    const ran = await runner({
      dbClient: client,
      dir: directory,
      ignorePattern: '(?!\\d{4}_[a-z0-9_]+\\.sql$).*',
      direction: 'up',
      migrationsTable: MIGRATIONS_TABLE,
      migrationsSchema: schema,
      schema: 'public',
      createMigrationsSchema: true,
      advisoryLockMode: 'wait',
      log: () => undefined,
    });
    return { schema, applied: ran.map((migration) => migration.name), version: known.at(-1) };
  } catch (cause) {
    if (isAppError(cause)) throw cause;
    if (unreachable(cause)) {
      throw auditError('ERR_AUDIT_DATABASE', `database is out of reach: ${messageOf(cause)}`, {
        cause,
        retryable: true,
      });
    }
    const why = messageOf(cause);
    // SQLSTATE insufficient_privilege, and of the roles: the schema's own refusals have another way on.
    const wayOn = foreignCodeOf(cause) === '42501' && why.includes('create role') ? NO_ROLES : '';
    throw auditError('ERR_AUDIT_MIGRATION_FAILED', `schema ${schema} was not migrated: ${why}${wayOn}`, {
      cause,
    });
  } finally {
    await client.end().catch(() => undefined);
  }
};
