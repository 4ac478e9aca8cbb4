import { type DatabaseInspection, hearsNotifications, inspectDatabase } from '../../audit/index.ts';
import { foreignCodeOf, messageOf } from '../../runtime/index.ts';
import { type Check, checkOf, type Lines } from './line.ts';

/** PostgreSQL that the schemas are tested with, and newer (docs/operations.md). */
const OLDEST_MAJOR = 15;
const MIGRATE = 'run `sallyport migrate --database URL` as its owner';
const OWN_LOGIN = 'use a login of its own, as `sallyport init` makes';

/** Host, port and database of a URL, without who and with what. */
const placeOf = (url: string): string => {
  try {
    const { hostname, port, pathname } = new URL(url);
    return `${hostname}:${port === '' ? '5432' : port}${pathname}`;
  } catch {
    return 'the database';
  }
};

const REMEDIES: Readonly<Record<string, string>> = {
  '28P01': "the password is wrong: correct the URL, or set the role's password",
  '28000': 'pg_hba.conf of the database refuses this host or role: add a line for it',
  '3D000': 'there is no such database: create it, then `sallyport migrate --database URL`',
  '53300': 'the database has no connection left: raise max_connections, or close some',
  '57P03': 'the database is starting or stopping: try again',
  ECONNREFUSED: 'nobody listens there: start PostgreSQL, see listen_addresses and the port',
  ENOTFOUND: 'the host name does not resolve: correct the URL',
  ETIMEDOUT: 'nothing answers: a firewall may drop it',
};

/** What a login finds; undefined, and a line of it, when it finds nothing. */
const inspected = async (
  lines: Lines,
  url: string,
  schema: 'audit' | 'control',
  group: string,
): Promise<DatabaseInspection | undefined> => {
  let found: DatabaseInspection;
  try {
    found = await inspectDatabase(url, schema, group);
  } catch (thrown) {
    const remedy = REMEDIES[foreignCodeOf(thrown) ?? ''];
    lines.away(
      messageOf(thrown),
      remedy ?? 'look at the database and the way to it; the configuration has the URL',
    );
    return undefined;
  }
  if (!found.hasSchema) {
    lines.fail(`it has no schema ${schema}`, MIGRATE);
    return undefined;
  }
  if (found.isStandby)
    lines.fail('it is a standby and takes nothing', `name the primary in ${schema}.database_url`);
  if (!found.isMember) {
    lines.fail(`role ${found.role} is no member of ${group} and can do nothing here`, OWN_LOGIN);
    return undefined;
  }
  if (Number.parseInt(found.version, 10) < OLDEST_MAJOR)
    lines.fail(`PostgreSQL ${found.version} is too old`, `use ${String(OLDEST_MAJOR)} or newer`);
  if (found.ownsSchema)
    lines.warn(
      `role ${found.role} owns the schema: who has its password can change what is kept there`,
      OWN_LOGIN,
    );
  return found;
};

/** The audit database, as its writer. @param newest the newest migration of this version */
export const auditDatabaseCheck = (url: string, newest: string | undefined): Check =>
  checkOf('audit database', placeOf(url), async (lines) => {
    const found = await inspected(lines, url, 'audit', 'audit_ingest');
    if (found === undefined) return;
    const { role, version, newestMigration } = found;
    if (newestMigration !== undefined && newest !== undefined && newestMigration < newest)
      lines.fail(`its schema is at ${newestMigration}, this version has ${newest}`, MIGRATE);
    else
      lines.pass(
        `PostgreSQL ${version}, as ${role}, schema ${newestMigration ?? 'there (its version is not told to this role)'}`,
      );
  });

/** The control database of a relay. */
export const controlDatabaseCheck = (url: string, listenUrl: string): Check =>
  checkOf('control database', placeOf(url), async (lines, signal) => {
    const found = await inspected(lines, url, 'control', 'control_relay');
    if (found === undefined) return;
    lines.pass(`PostgreSQL ${found.version}, as ${found.role}`);
    if (await hearsNotifications(listenUrl, signal))
      lines.pass('LISTEN hears: a direct connection, or a pooler of whole sessions');
    else
      lines.fail(
        'LISTEN hears nothing: a pooler in transaction mode is between',
        'set control.listen_url to the database itself',
      );
  });
