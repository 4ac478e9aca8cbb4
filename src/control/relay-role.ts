import pg from 'pg';
import { messageOf } from '../runtime/index.ts';
import { databaseError } from './database.ts';

/** What a relay's login is a member of; migrations/control/roles.sql makes it. */
const GROUP = 'control_relay';
const CONNECT_TIMEOUT_MS = 5_000;

/**
 * Makes (or gives a new password to) a login that a relay opens the control database with.
 * @throws AppError ERR_CONTROL_UNAVAILABLE, ERR_CONTROL_SCHEMA
 */
export const ensureRelayRole = async (adminUrl: string, name: string, password: string): Promise<void> => {
  const client = new pg.Client({
    connectionString: adminUrl,
    application_name: 'sallyport-roles',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
  });
  let lost = '';
  client.on('error', (error) => {
    lost = messageOf(error);
  });
  try {
    await client.connect();
    const role = client.escapeIdentifier(name);
    const attributes = `login nosuperuser nocreatedb nocreaterole password ${client.escapeLiteral(password)}`;
    const known = await client.query('select from pg_roles where rolname = $1', [name]);
    await client.query(
      known.rowCount === 0 ? `create role ${role} ${attributes}` : `alter role ${role} ${attributes}`,
    );
    await client.query(`grant ${GROUP} to ${role}`);
  } catch (error) {
    throw databaseError(lost === '' ? error : new Error(lost, { cause: error }));
  } finally {
    // Only the result counts: an end that fails closes nothing that is still open.
    await client.end().catch(() => undefined);
  }
};
