import { fileURLToPath } from 'node:url';
import {
  ensureReaderRole,
  ensureWriterRole,
  migrate,
  type MigrationResult,
  roleSql,
} from '../../audit/index.ts';
import { ensureRelayRole } from '../../control/index.ts';
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
  readonly reader: { readonly name: string; readonly password: string };
}

/** Login that reads the audit views, as a member of role `audit_read`. */
export const READER_ROLE = 'sallyport_audit_reader';

const roleName = (kind: string, name: string): string => `sallyport_${kind}_${name.replaceAll('-', '_')}`;

/** Both schemas up to date; login roles for each relay node's control data, each audit writer and the reader. Idempotent. */
export const prepareDatabase = async (
  databaseUrl: string,
  names: { readonly nodes: readonly string[]; readonly agent: string },
  passwordFor: (role: string) => string,
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
    await ensureRelayRole(databaseUrl, control.name, control.password);
    await ensureWriterRole(databaseUrl, audit.name, audit.password);
    nodes.push({
      node,
      controlUrl: withRole(databaseUrl, control),
      auditUrl: withRole(databaseUrl, audit),
    });
  }
  const agent = roleOf(roleName('agent', names.agent));
  const reader = roleOf(READER_ROLE);
  await ensureWriterRole(databaseUrl, agent.name, agent.password);
  await ensureReaderRole(databaseUrl, reader.name, reader.password);
  return {
    nodes,
    agentAuditUrl: withRole(databaseUrl, agent),
    reader,
  };
};
