import { withOwner } from './one-connection.ts';

/** What a database, and the server it is on, hold already of a deployment. */
export interface Occupancy {
  readonly connectionCount: number;
  readonly keyCount: number;
  /** Those of the asked logins that the server has: logins belong to the server, not to one database. */
  readonly logins: readonly string[];
}

/** From this version on a role is changed, or given to others, only with ADMIN OPTION on it (PostgreSQL 16, `CREATE ROLE`). */
const ADMIN_OPTION_VERSION = 160_000;

const UNCHANGEABLE = `select r.rolname,
    case when r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication then 'it may more than a login of a deployment'
      else 'it was made by another login, and only that one or a superuser may change it or give it to others' end as why
  from pg_roles as r, (select rolsuper, rolcreaterole from pg_roles where rolname = current_user) as me
  where ((r.rolname = any($1::text[]) and (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication))
    or (r.rolname = any($1::text[] || $2::text[] || $4::text[]) and not me.rolsuper and me.rolcreaterole
      and current_setting('server_version_num')::int >= $3
      and not pg_has_role(current_user, r.oid, 'member with admin option')
      and not (r.rolname = any($4) and pg_has_role(current_user, r.oid, 'set'))))
  order by 1`;

/** A role that the login given cannot change or hand on, and why. */
export interface UnchangeableRole {
  readonly name: string;
  readonly why: string;
}

/**
 * Which of these logins the login of the URL could not give a new password, which of these groups it could not give to
 * a login, and as which of these owners it could not act. Logins that could do more than a deployment's are among them. Looks, and changes nothing.
 * @throws AppError ERR_CONTROL_UNAVAILABLE, ERR_CONTROL_SCHEMA
 */
export const findUnchangeableRoles = (
  ownerUrl: string,
  logins: readonly string[],
  groups: readonly string[],
  owners: readonly string[],
): Promise<UnchangeableRole[]> =>
  withOwner(ownerUrl, async (client) => {
    const { rows } = await client.query<{ rolname: string; why: string }>(UNCHANGEABLE, [
      logins,
      groups,
      ADMIN_OPTION_VERSION,
      owners,
    ]);
    return rows.map(({ rolname, why }) => ({ name: rolname, why }));
  });

const COUNTS = `select (select count(*) from control.connection)::int as connections,
  (select count(*) from control.key)::int as keys`;

/** Looks, and changes nothing. @throws AppError ERR_CONTROL_UNAVAILABLE, ERR_CONTROL_SCHEMA */
export const findOccupancy = (ownerUrl: string, logins: readonly string[]): Promise<Occupancy> =>
  withOwner(ownerUrl, async (client) => {
    const known = await client.query<{ rolname: string }>(
      'select rolname from pg_roles where rolname = any($1) order by rolname',
      [logins],
    );
    const schema = await client.query<{ there: boolean }>(
      `select to_regclass('control.connection') is not null and to_regclass('control.key') is not null as there`,
    );
    const counts =
      schema.rows[0]?.there === true
        ? (await client.query<{ connections: number; keys: number }>(COUNTS)).rows[0]
        : undefined;
    return {
      connectionCount: counts?.connections ?? 0,
      keyCount: counts?.keys ?? 0,
      logins: known.rows.map(({ rolname }) => rolname),
    };
  });
