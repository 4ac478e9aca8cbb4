import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import {
  type AuditEventInput,
  type AuditLog,
  type AuditLogOptions,
  ensureWriterRole,
  migrate,
  openAuditLog,
} from '../../src/audit/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import type { TestPostgres } from '../support/postgres.ts';

export const MIGRATIONS = fileURLToPath(new URL('../../migrations/audit', import.meta.url));
const PASSWORD = 'test-only-password';

/** The same server and database under another login. */
export const urlAs = (url: string, role: string): string => {
  const other = new URL(url);
  other.username = role;
  other.password = PASSWORD;
  return other.href;
};

/** A fresh database with the audit schema; the writer's URL and the owner's. */
export const auditDatabase = async (
  server: TestPostgres,
  writer = 'writer_1',
): Promise<{ owner: string; writer: string }> => {
  const owner = await server.createDatabase();
  await migrate({ databaseUrl: owner, schema: 'audit', directory: MIGRATIONS, roles: true });
  await ensureWriterRole(owner, writer, PASSWORD);
  return { owner, writer: urlAs(owner, writer) };
};

export const TEST_PASSWORD = PASSWORD;

/** Runs something on a connection of its own. */
export const onDatabase = async <T>(url: string, call: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = new pg.Client(url);
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await call(client);
  } finally {
    await client.end();
  }
};

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests compare whatever a statement returns
export type AnyRow = Record<string, any>;

/** Rows of one statement. */
export const rowsOf = (url: string, sql: string, values: unknown[] = []): Promise<AnyRow[]> =>
  onDatabase(url, async (client) => (await client.query(sql, values)).rows as AnyRow[]);

/** Runs statements as the owner with the append-only triggers off: what a database administrator can do. */
export const tamper = (url: string, ...statements: string[]): Promise<void> =>
  onDatabase(url, async (client) => {
    await client.query("set session_replication_role to 'replica'");
    for (const statement of statements) await client.query(statement);
  });

/** Opens a log in `directory`, as agent `agent-1` unless told otherwise. */
export const openLog = (directory: string, options: Partial<AuditLogOptions> = {}): Promise<AuditLog> =>
  openAuditLog({
    spoolDir: join(directory, 'spool'),
    keyFile: join(directory, 'audit-key.pem'),
    origin: {
      kind: 'agent',
      name: 'agent-1',
      instance: 'instance-1',
      namespace: 'relay.example.com',
      version: '0.1.0',
      zone: 'Europe/Berlin',
    },
    clock: systemClock,
    logger: silentLogger,
    ...options,
  });

export const streamId = (number: number): string =>
  `019ab000-0000-7000-8000-${number.toString(16).padStart(12, '0')}`;

/** A decision on stream `number`. */
export const decision = (number: number, allow = true): AuditEventInput => ({
  type: 'stream.decision',
  subject: {
    connection: 'orders-db',
    connection_id: 'c-1',
    principal: 'orders-app',
    auth_rule: 'orders-app',
    key_id: 'k_0123456789abcdef0123',
    key_slot: 'primary',
    key_kind: 'sas',
    proved_by: 'relay',
    stream_id: streamId(number),
    stream_no: number,
    stream_kind: 'tcp',
    attempt: 1,
    link_id: streamId(1_000_000),
    gateway: 'gateway-1',
    source_addr: '203.0.113.7',
    client_addr: '10.9.8.7',
    client_port: 50_000,
    target_host: 'sql01.corp.example',
    target_addr: '10.1.2.3',
    target_port: 1433,
  },
  data: {
    allow,
    decided_by: 'policy',
    ...(allow ? {} : { reason: 'policy_denied' }),
    input: '{"action":"stream","v":1}',
    candidates: [{ address: '10.1.2.3', verdict: allow ? 'allowed' : 'denied' }],
    rule: allow ? 'orders-app' : null,
    rules: { publish: ['orders-publish'], stream: allow ? ['orders-app'] : [] },
    reasons: allow ? [] : [{ code: 'no_stream_rule', args: {} }],
    obligations: { max_seconds: 3600 },
    bundle: { sha256: 'ab'.repeat(32), revision: 'r1', sequence: 7 },
    eval_us: 44.5,
    shadow: false,
  },
});

/** The end of stream `number`. */
export const ending = (number: number): AuditEventInput => ({
  type: 'stream.close',
  subject: {
    connection: 'orders-db',
    principal: 'orders-app',
    key_id: 'k_0123456789abcdef0123',
    stream_id: streamId(number),
    attempt: 1,
    target_host: 'sql01.corp.example',
    target_addr: '10.1.2.3',
    target_port: 1433,
  },
  data: {
    reason: 'client_fin',
    reason_number: 1,
    bytes_up: 100,
    bytes_down: 2000,
    dial_ms: 1.5,
    duration_ms: 250,
  },
});
