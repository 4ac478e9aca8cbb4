import type pg from 'pg';
import { randomBytes } from '../../runtime/index.ts';
import { newClient, withClient } from './client.ts';

/** Connecting, each query and a notification, milliseconds. */
const INSPECTION_LIMIT_MS = 5_000;
const APPLICATION = 'sallyport doctor';

/** What a login finds in a database, asked of the catalog alone. */
export interface DatabaseInspection {
  readonly role: string;
  /** `18.4`, as the server says it. */
  readonly version: string;
  readonly isStandby: boolean;
  readonly hasSchema: boolean;
  /** The login is, or is a member of, the owner of the schema. */
  readonly ownsSchema: boolean;
  /** The login is a member of the group that may do the work. */
  readonly isMember: boolean;
  /** The newest migration; undefined when the login may not read it. */
  readonly newestMigration: string | undefined;
}

const clientOf = (url: string): pg.Client =>
  newClient(url, APPLICATION, {
    connectionTimeoutMillis: INSPECTION_LIMIT_MS,
    query_timeout: INSPECTION_LIMIT_MS,
  });

const INSPECT = `
  select current_user as role, current_setting('server_version') as version, pg_is_in_recovery() as "isStandby",
    to_regnamespace($1) is not null as "hasSchema",
    exists (select from pg_namespace where nspname = $1 and pg_has_role(nspowner, 'member')) as "ownsSchema",
    exists (select from pg_roles where rolname = $2 and pg_has_role(oid, 'member')) as "isMember",
    coalesce((select has_schema_privilege(oid, 'usage') from pg_namespace where nspname = $1), false) as "mayUse"`;

type Found = Omit<DatabaseInspection, 'newestMigration'> & { readonly mayUse: boolean };

const newestOf = async (client: pg.Client, schema: string): Promise<string | undefined> => {
  const table = `${client.escapeIdentifier(schema)}.schema_migrations`;
  const { rows: readable } = await client.query<{ may: boolean | null }>(
    `select has_table_privilege(to_regclass($1), 'select') as may`,
    [table],
  );
  if (readable[0]?.may !== true) return undefined;
  const { rows } = await client.query<{ name: string }>(`select name from ${table} order by id desc limit 1`);
  return rows[0]?.name;
};

/**
 * Looks at a database as one of its logins; changes nothing.
 * @param group the role whose members do the work: `audit_ingest`, `control_relay`
 * @throws what connecting and asking throw
 */
export const inspectDatabase = (
  url: string,
  schema: 'audit' | 'control',
  group: string,
): Promise<DatabaseInspection> =>
  withClient(clientOf(url), async (client) => {
    const { rows } = await client.query<Found>(INSPECT, [schema, group]);
    const [found] = rows;
    if (found === undefined) throw new Error('the database answers without an answer');
    const { mayUse, ...inspection } = found;
    return { ...inspection, newestMigration: mayUse ? await newestOf(client, schema) : undefined };
  });

/**
 * Whether a notification reaches a connection that listens: behind a pooler in transaction mode it does not.
 * @throws what connecting and asking throw
 */
export const hearsNotifications = (url: string, signal: AbortSignal): Promise<boolean> =>
  withClient(clientOf(url), (listener) =>
    withClient(clientOf(url), async (speaker) => {
      const channel = `sallyport_doctor_${randomBytes(6).toString('hex')}`;
      const limit = AbortSignal.any([signal, AbortSignal.timeout(INSPECTION_LIMIT_MS)]);
      const heard = new Promise<boolean>((resolve) => {
        listener.once('notification', () => resolve(true));
        limit.addEventListener('abort', () => resolve(false), { once: true });
      });
      await listener.query(`listen ${channel}`);
      await speaker.query(`select pg_notify($1, '')`, [channel]);
      return heard;
    }),
  );
