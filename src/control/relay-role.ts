import { withOwner } from './one-connection.ts';

/** What a relay's login is a member of; migrations/control/roles.sql makes it. */
const GROUP = 'control_relay';

/**
 * Makes a login that a relay opens the control database with. One that is there gets the new password, or with
 * `existing: 'refuse'` is left as it is and the database's own error (duplicate_object) is thrown.
 * @throws AppError ERR_CONTROL_UNAVAILABLE, ERR_CONTROL_SCHEMA
 */
export const ensureRelayRole = (
  ownerUrl: string,
  name: string,
  password: string,
  existing: 'replace' | 'refuse' = 'replace',
): Promise<void> =>
  withOwner(ownerUrl, async (client) => {
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
    await client.query(`grant ${GROUP} to ${role}`);
  });
