import assert from 'node:assert/strict';
import { copyFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  addSigner,
  createAuditRoot,
  ensureWriterRole,
  migrate,
  openAuditKey,
} from '../../src/audit/index.ts';
import { readControlChanges } from '../../src/control/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { projectRoot, runCommand } from '../support/command.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';
import { decision, ending, openLog, rowsOf, TEST_PASSWORD, urlAs } from './audit-fixture.ts';
import { verifyTwice } from './both-verifiers.ts';

const FLUSH_MS = 20_000;
/** The first migration after which a writer may append: those before make tables, function and views without grants. */
const FIRST_WITH_WRITERS = 5;

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

type Schema = 'audit' | 'control';

const folderOf = (schema: Schema): string => join(projectRoot, 'migrations', schema);

const namesOf = (schema: Schema): string[] =>
  readdirSync(folderOf(schema))
    .filter((name) => /^\d{4}_/.test(name))
    .sort();

/** Brings a schema to the state after its first migrations, as an installation of then has it. */
const migrateTo = async (t: Closer, databaseUrl: string, schema: Schema, count: number): Promise<void> => {
  const directory = temporaryDirectory(t, 'migrations');
  for (const name of [...namesOf(schema).slice(0, count), 'roles.sql'])
    copyFileSync(join(folderOf(schema), name), join(directory, name));
  await migrate({ databaseUrl, schema, directory, roles: true });
};

const migrateAll = (databaseUrl: string, schema: Schema): Promise<unknown> =>
  migrate({ databaseUrl, schema, directory: folderOf(schema), roles: true });

const schemasOf = async (url: string): Promise<string[]> => {
  const rows = await rowsOf(
    url,
    "select nspname from pg_namespace where nspname in ('audit', 'control') order by 1",
  );
  return rows.map((row) => String(row.nspname));
};

test('audit: a store that was written to after each migration verifies after the last, and every view answers', async (t) => {
  const owner = await server.createDatabase();
  const directory = temporaryDirectory(t, 'upgrade');
  const files = { rootKeyFile: join(directory, 'root.pem'), trustFile: join(directory, 'trust.json') };
  createAuditRoot(files);
  const { publicKey } = openAuditKey(join(directory, 'audit-key.pem'));
  addSigner({ ...files, publicKey, kind: 'agent', name: 'agent-1', clock: systemClock });
  const steps = namesOf('audit').length;
  for (let count = FIRST_WITH_WRITERS; count <= steps; count += 1) {
    await migrateTo(t, owner, 'audit', count);
    await ensureWriterRole(owner, 'writer_1', TEST_PASSWORD);
    const log = await openLog(directory, { database: { url: urlAs(owner, 'writer_1') } });
    await log.record(decision(count));
    await log.record(decision(1000 + count, false));
    await log.record(ending(count));
    assert.equal(await log.flush(FLUSH_MS), true, `after ${count} migrations`);
    await log.close();
  }
  const report = await verifyTwice({
    databaseUrl: owner,
    trustFile: files.trustFile,
    headFiles: [join(directory, 'spool', 'head.json')],
    columns: true,
  });
  assert.deepEqual(report.findings, []);
  assert.equal(report.chains, steps - FIRST_WITH_WRITERS + 1);
  assert.equal(report.breaks, 1);
  const views = await rowsOf(
    owner,
    "select viewname from pg_views where schemaname = 'audit' order by viewname",
  );
  assert.ok(views.length > 8);
  for (const { viewname } of views) await rowsOf(owner, `select * from audit.${String(viewname)}`);
  const [streams] = await rowsOf(
    owner,
    "select count(*)::int as n from audit.streams where state = 'closed'",
  );
  assert.deepEqual(streams, { n: report.chains });
  const [denied] = await rowsOf(owner, 'select count(*)::int as n from audit.denies');
  assert.deepEqual(denied, { n: report.chains });
  assert.deepEqual(await schemasOf(owner), ['audit']);
});

const CONNECTION = '019ab000-0000-7000-8000-00000000c001';
const RULE = '019ab000-0000-7000-8000-00000000c002';
const REVOCATION = '019ab000-0000-7000-8000-00000000c003';
const EVENT = '019ab000-0000-7000-8000-00000000c004';

test('control: what stood after the first migration stands after the last', async (t) => {
  const owner = await server.createDatabase();
  await migrateTo(t, owner, 'control', 1);
  for (const statement of [
    "insert into control.namespace (name) values ('relay.example.com')",
    `insert into control.connection (id, namespace, name, target_host, target_port)
     values ('${CONNECTION}', 'relay.example.com', 'orders-db', 'sql01.corp.example', 1433)`,
    `insert into control.auth_rule (id, namespace, connection_id, name, claims)
     values ('${RULE}', 'relay.example.com', '${CONNECTION}', 'orders-app', '{Send}')`,
    `insert into control.key (key_id, auth_rule_id, slot, keyring_key, sealed)
     values ('k_0123456789abcdef0123', '${RULE}', 'primary', 'k1', '\\x00')`,
    `insert into control.key_usage (key_id, source, auth_rule, slot, first_used_at, last_used_at, use_count)
     values ('k_0123456789abcdef0123', '203.0.113.7', 'orders-app', 'primary', now(), now(), 3)`,
    `insert into control.revocation (revocation_id, namespace, key_id, kind, auth_rule, slot, actor)
     values ('${REVOCATION}', 'relay.example.com', 'k_ffffffffffffffffffff', 'key_revoked', 'orders-app', 'primary', 't_1')`,
    `insert into control.outbox (event_id, event) values ('${EVENT}', '{"type": "connection.created", "id": "${EVENT}",
       "subject": {"connection": "orders-db", "connection_id": "${CONNECTION}"}, "data": {}}')`,
    "insert into control.node (name, instance) values ('relay-1', 'i')",
  ])
    await rowsOf(owner, statement);
  const tables = ['namespace', 'connection', 'auth_rule', 'key', 'key_usage', 'revocation', 'outbox', 'node'];
  const before = await Promise.all(tables.map((table) => rowsOf(owner, `select * from control.${table}`)));
  await migrateAll(owner, 'control');
  for (const [at, table] of tables.entries()) {
    const rows = await rowsOf(owner, `select * from control.${table}`);
    assert.equal(rows.length, 1, table);
    for (const [column, value] of Object.entries(before[at]?.[0] ?? assert.fail(table)))
      assert.deepEqual(rows[0]?.[column], value, `${table}.${column}`);
  }
  const { outbox, standing } = await readControlChanges(owner);
  assert.deepEqual(
    outbox.map(({ event }) => event.id),
    [EVENT],
  );
  assert.ok(standing.some(({ what }) => what.includes('orders-db')));
  assert.deepEqual(await schemasOf(owner), ['control']);
});

for (const schema of ['audit', 'control'] as const) {
  test(`sallyport migrate --schema ${schema} makes that schema alone, and refuses one that is newer`, async () => {
    const owner = await server.createDatabase();
    const run = (): ReturnType<typeof runCommand> =>
      runCommand(process.execPath, [
        join(projectRoot, 'bin/sallyport'),
        ...['migrate', '--database', owner, '--schema', schema],
      ]);
    assert.equal((await run()).code, 0);
    assert.equal((await run()).code, 0);
    assert.deepEqual(await schemasOf(owner), [schema]);
    await rowsOf(
      owner,
      `insert into ${schema}.schema_migrations (name, run_on) values ('9999_future', now())`,
    );
    const { code, stderr } = await run();
    assert.notEqual(code, 0);
    assert.match(stderr, /newer than this version: it has 9999_future/);
  });
}
