import { fileURLToPath } from 'node:url';
import { ensureWriterRole, migrate, type MigrationResult, roleSql } from '../../audit/index.ts';
import { ensureRelayRole, findOccupancy, findUnchangeableRoles } from '../../control/index.ts';
import { AppError } from '../../runtime/index.ts';
import { packageRoot } from '../version.ts';

export type SchemaName = 'audit' | 'control';

/** The SQL files of a schema, in the package. */
export const migrationDirectory = (schema: SchemaName): string =>
  fileURLToPath(new URL(`migrations/${schema}`, packageRoot));

/** The SQL that makes a schema's roles, for whoever may run it. */
export const roleSqlOf = (schema: SchemaName): string => roleSql(migrationDirectory(schema));

/** Applies the migrations of one schema. @throws AppError, also when the database's schema is newer than ours */
export const migrateSchema = (
  databaseUrl: string,
  schema: SchemaName,
  roles: boolean,
): Promise<MigrationResult> => migrate({ databaseUrl, schema, directory: migrationDirectory(schema), roles });

/** A database URL for another role, or another way to the same database. */
export const withRole = (
  databaseUrl: string,
  role: { readonly name: string; readonly password: string },
  address?: { readonly host: string; readonly port: number },
): string => {
  const url = new URL(databaseUrl);
  url.username = encodeURIComponent(role.name);
  url.password = encodeURIComponent(role.password);
  if (address !== undefined) {
    url.hostname = address.host;
    url.port = String(address.port);
  }
  return url.href;
};

/** What one relay node opens the databases with. Secrets. */
export interface NodeUrls {
  readonly node: string;
  /** URL with which it keeps connections, keys and revocations; it owns nothing. */
  readonly controlUrl: string;
  /** URL of its audit writer. */
  readonly auditUrl: string;
}

export interface DatabaseRoles {
  readonly nodes: readonly NodeUrls[];
  readonly agentAuditUrl: string;
}

/** Login that reads the audit views, as a member of role `audit_read`. */
export const READER_ROLE = 'sallyport_audit_reader';

const roleName = (kind: string, name: string): string => `sallyport_${kind}_${name.replaceAll('-', '_')}`;

export interface DeploymentNames {
  readonly nodes: readonly string[];
  readonly agent: string;
}

/** The logins that relays and agent of a deployment open the databases with. */
export const loginsOf = ({ nodes, agent }: DeploymentNames): string[] => [
  ...nodes.flatMap((node) => [roleName('control', node), roleName('relay', node)]),
  roleName('agent', agent),
];

/**
 * Refuses a database that is somebody's already. New passwords for logins that are there, or a second keyring over keys that
 * are there, would end the deployment that uses them.
 * @throws AppError ERR_CLI_DATABASE_USED
 */
export const requireUnusedDatabase = async (
  databaseUrl: string,
  logins: readonly string[],
  wayOn: { readonly data: string; readonly logins: string },
): Promise<void> => {
  const found = await findOccupancy(databaseUrl, logins);
  const [noConnections, noKeys] = [found.connectionCount === 0, found.keyCount === 0];
  if (noConnections && noKeys && found.logins.length === 0) return;
  const parts = [
    ...(noConnections ? [] : [`connections (${found.connectionCount})`]),
    ...(noKeys ? [] : [`keys (${found.keyCount})`]),
    ...(found.logins.length === 0 ? [] : [`login ${found.logins.join(', ')}`]),
  ];
  throw new AppError(
    'ERR_CLI_DATABASE_USED',
    `another deployment uses this database or its server: there are ${parts.join(', ')}; nothing was changed; ` +
      (noConnections && noKeys ? wayOn.logins : wayOn.data),
  );
};

/** The groups whose members the logins of a deployment are. */
const GROUPS = ['audit_ingest', 'control_relay'];
/** Who owns what the migrations make. */
const OWNERS = ['audit_owner', 'control_owner'];

/**
 * Refuses, before anything is changed, a login that could not make or change the roles of a deployment.
 * @throws AppError ERR_CLI_DATABASE_USED
 */
export const requireChangeableRoles = async (
  databaseUrl: string,
  logins: readonly string[],
): Promise<void> => {
  const found = await findUnchangeableRoles(databaseUrl, logins, GROUPS, OWNERS);
  if (found.length === 0) return;
  const login = new URL(databaseUrl).username;
  throw new AppError(
    'ERR_CLI_DATABASE_USED',
    `login ${login} cannot use roles that the server has: ${found.map(({ name, why }) => `${name} (${why})`).join('; ')}; ` +
      'nothing was changed; give --database with the login that made them, or with a superuser, or let one of these run ' +
      found.map(({ name }) => `grant ${name} to ${login} with admin option;`).join(' '),
  );
};

/**
 * Both schemas up to date; login roles for each relay node's control data and for each audit writer. Idempotent with
 * `existing: 'replace'`, which gives logins that are there the passwords asked for.
 */
export const prepareDatabase = async (
  databaseUrl: string,
  names: DeploymentNames,
  passwordFor: (role: string) => string,
  existing: 'replace' | 'refuse',
): Promise<DatabaseRoles> => {
  await migrateSchema(databaseUrl, 'audit', true);
  await migrateSchema(databaseUrl, 'control', true);
  const roleOf = (name: string): { name: string; password: string } => ({
    name,
    password: passwordFor(name),
  });
  const nodes: NodeUrls[] = [];
  for (const node of names.nodes) {
    const control = roleOf(roleName('control', node));
    const audit = roleOf(roleName('relay', node));
    await ensureRelayRole(databaseUrl, control.name, control.password, existing);
    await ensureWriterRole(databaseUrl, audit.name, audit.password, existing);
    nodes.push({
      node,
      controlUrl: withRole(databaseUrl, control),
      auditUrl: withRole(databaseUrl, audit),
    });
  }
  const agent = roleOf(roleName('agent', names.agent));
  await ensureWriterRole(databaseUrl, agent.name, agent.password, existing);
  return { nodes, agentAuditUrl: withRole(databaseUrl, agent) };
};
