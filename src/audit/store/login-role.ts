import { foreignCodeOf, isAppError } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { newClient, withClient } from './client.ts';
import { refusalText } from './no-schema.ts';

/** What becomes of a login that is there already: it gets the new password, or is left as it is and that is an error. */
type Existing = 'replace' | 'refuse';

/** SQLSTATE insufficient_privilege. */
const NOT_PERMITTED = '42501';
const MAY_MAKE_ROLES = '; give a login that may make roles (createrole)';

const ensureLogin = async (
  adminUrl: string,
  name: string,
  password: string,
  group: string,
  existing: Existing = 'replace',
): Promise<void> => {
  try {
    await withClient(newClient(adminUrl, 'sallyport-roles'), async (client) => {
      const role = client.escapeIdentifier(name);
      const secret = `login password ${client.escapeLiteral(password)}`;
      const isKnown =
        existing === 'replace' &&
        (await client.query('select from pg_roles where rolname = $1', [name])).rowCount !== 0;
      // Whoever is no superuser may not even say `nosuperuser` of a role that is there.
      await client.query(
        isKnown
          ? `alter role ${role} ${secret}`
          : `create role ${role} nosuperuser nocreatedb nocreaterole ${secret}`,
      );
      await client.query(`grant ${client.escapeIdentifier(group)} to ${role}`);
    });
  } catch (cause) {
    const wayOn = foreignCodeOf(cause) === NOT_PERMITTED ? MAY_MAKE_ROLES : '';
    const message = `role ${name} was not made: ${refusalText(cause)}${wayOn}`;
    throw auditError('ERR_AUDIT_DATABASE', message, { cause });
  }
};

/**
 * Makes (or gives a new password to, unless `existing` refuses) a login that may append to its own chains and see the heads
 * of others. One per writer: a chain belongs to the login that opened it.
 * @throws AppError ERR_AUDIT_DATABASE
 */
export const ensureWriterRole = (
  adminUrl: string,
  name: string,
  password: string,
  existing?: Existing,
): Promise<void> => ensureLogin(adminUrl, name, password, 'audit_ingest', existing);

/**
 * Makes (or gives a new password to) the login that imports the evidence of another site. A login stands for one site and
 * a site for one login, for ever: its chains bear the name.
 * @throws AppError ERR_AUDIT_IMPORT_SITE when the login or the name is taken; ERR_AUDIT_DATABASE
 */
export const ensureImporterRole = async (
  adminUrl: string,
  name: string,
  password: string,
  site: string,
): Promise<void> => {
  try {
    await withClient(newClient(adminUrl, 'sallyport-roles'), async (client) => {
      await client.query('insert into audit.site (login, site) values ($1, $2) on conflict do nothing', [
        name,
        site,
      ]);
      const { rows } = await client.query<{ login: string; site: string }>(
        'select login::text as login, site from audit.site where login = $1 or site = $2',
        [name, site],
      );
      const other = rows.find((row) => row.login !== name || row.site !== site);
      if (other !== undefined)
        throw auditError(
          'ERR_AUDIT_IMPORT_SITE',
          `login ${other.login} stands for site ${other.site} already`,
        );
    });
  } catch (cause) {
    if (isAppError(cause)) throw cause;
    throw auditError('ERR_AUDIT_DATABASE', `site ${site} was not added: ${refusalText(cause)}`, { cause });
  }
  await ensureLogin(adminUrl, name, password, 'audit_import');
};

/** Makes (or gives a new password to) a login that may read the views. @throws AppError ERR_AUDIT_DATABASE */
export const ensureReaderRole = (adminUrl: string, name: string, password: string): Promise<void> =>
  ensureLogin(adminUrl, name, password, 'audit_read');

/** Makes (or gives a new password to) a login that may read the tables. @throws AppError ERR_AUDIT_DATABASE */
export const ensureVerifierRole = (adminUrl: string, name: string, password: string): Promise<void> =>
  ensureLogin(adminUrl, name, password, 'audit_verify');

/** Makes (or gives a new password to) a login that may carry out retention. @throws AppError ERR_AUDIT_DATABASE */
export const ensureRetentionRole = (adminUrl: string, name: string, password: string): Promise<void> =>
  ensureLogin(adminUrl, name, password, 'audit_retention');
