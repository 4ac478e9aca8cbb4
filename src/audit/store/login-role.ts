import pg from 'pg';
import { messageOf } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';

const ensureLogin = async (
  adminUrl: string,
  name: string,
  password: string,
  group: string,
): Promise<void> => {
  const client = new pg.Client({ connectionString: adminUrl, application_name: 'sallyport-roles' });
  client.on('error', () => {
    // The failing query rejects by itself.
  });
  try {
    await client.connect();
    const role = client.escapeIdentifier(name);
    const attributes = `login nosuperuser nocreatedb nocreaterole password ${client.escapeLiteral(password)}`;
    const { rowCount } = await client.query('select from pg_roles where rolname = $1', [name]);
    await client.query(
      rowCount === 0 ? `create role ${role} ${attributes}` : `alter role ${role} ${attributes}`,
    );
    await client.query(`grant ${client.escapeIdentifier(group)} to ${role}`);
  } catch (cause) {
    throw auditError('ERR_AUDIT_DATABASE', `role ${name} was not made: ${messageOf(cause)}`, { cause });
  } finally {
    await client.end().catch(() => undefined);
  }
};

/**
 * Makes (or gives a new password to) a login that may call `audit.append` and nothing else. One per writer: a
 * chain belongs to the login that opened it.
 * @throws AppError ERR_AUDIT_DATABASE
 */
export const ensureWriterRole = (adminUrl: string, name: string, password: string): Promise<void> =>
  ensureLogin(adminUrl, name, password, 'audit_ingest');

/** Makes (or gives a new password to) a login that may read the views. @throws AppError ERR_AUDIT_DATABASE */
export const ensureReaderRole = (adminUrl: string, name: string, password: string): Promise<void> =>
  ensureLogin(adminUrl, name, password, 'audit_read');

/** Makes (or gives a new password to) a login that may read the tables. @throws AppError ERR_AUDIT_DATABASE */
export const ensureVerifierRole = (adminUrl: string, name: string, password: string): Promise<void> =>
  ensureLogin(adminUrl, name, password, 'audit_verify');
