import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import {
  ensureReaderRole,
  ensureVerifierRole,
  type PolicyArtifact,
  PolicyStore,
} from '../../src/audit/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { auditDatabase, onDatabase, rowsOf, TEST_PASSWORD, urlAs } from './audit-fixture.ts';

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

const digestOf = (content: Buffer): string => createHash('sha256').update(content).digest('hex');

const bundleOf = (text: string): Extract<PolicyArtifact, { kind: 'bundle' }> => {
  const content = Buffer.from(text);
  const rule = { title: 'T', owner: 'o@example.com', file: 'sallyport/allow/a.rego' };
  return {
    kind: 'bundle',
    sha256: digestOf(content),
    revision: 'r1',
    sequence: 7,
    catalog: [
      { id: 'app', action: 'stream', connection: 'orders-db', expires: '2027-01-01', line: 3, ...rule },
      { id: 'app', action: 'publish', connection: '*', ticket: 'SEC-1', line: 9, ...rule },
    ],
    content,
  };
};

const grantsOf = (text: string): PolicyArtifact => {
  const content = Buffer.from(text);
  return { kind: 'grants', sha256: digestOf(content), content };
};

const openStore = (t: TestContext, databaseUrl: string, directory: string): PolicyStore => {
  const store = new PolicyStore({ directory, databaseUrl, clock: systemClock, logger: silentLogger });
  t.after(() => store.close());
  return store;
};

const empty = (store: PolicyStore): Promise<true> =>
  eventually('nothing waits', () => (store.status().waiting === 0 ? true : undefined));

test('a bundle and grants reach the database with their catalog, once, and leave the shelf', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const directory = join(temporaryDirectory(t), 'shelf');
  const store = openStore(t, writer, directory);
  const bundle = bundleOf('bundle one');
  const grants = grantsOf('{"orders-db":{}}');
  await store.keep([bundle, grants]);
  await empty(store);
  const [stored] = await rowsOf(
    owner,
    'select sha256, revision, sequence, content, stored_by from audit.bundle',
  );
  assert.deepEqual(
    [
      stored?.['sha256'],
      stored?.['revision'],
      stored?.['sequence'],
      String(stored?.['content']),
      stored?.['stored_by'],
    ],
    [bundle.sha256, 'r1', '7', 'bundle one', 'writer_1'],
  );
  const rules = await rowsOf(owner, 'select * from audit.bundle_rule order by action');
  assert.deepEqual(
    rules.map((row): unknown[] => [
      row['rule_id'],
      row['action'],
      row['connection'],
      row['ticket'],
      row['expires'],
      row['location'],
    ]),
    [
      ['app', 'publish', '*', 'SEC-1', null, 'sallyport/allow/a.rego:9'],
      ['app', 'stream', 'orders-db', null, '2027-01-01', 'sallyport/allow/a.rego:3'],
    ],
  );
  const [kept] = await rowsOf(owner, 'select sha256, content from audit.bundle_grants');
  assert.deepEqual([kept?.['sha256'], String(kept?.['content'])], [grants.sha256, '{"orders-db":{}}']);
  assert.deepEqual(readdirSync(directory), []);

  // What is there is not sent again: a second writer whose own copy would be refused does not even read it.
  await rowsOf(
    owner,
    'revoke execute on function audit.store_bundle(text, text, bigint, bytea, jsonb) from audit_ingest',
  );
  await store.keep([bundle]);
  await empty(store);
  assert.deepEqual((await rowsOf(owner, 'select count(*)::int as n from audit.bundle'))[0], { n: 1 });
});

test('the database is away: what waits outlives the process and arrives when it is back', async (t) => {
  const own = await startPostgres();
  t.after(() => own.stop());
  const { owner, writer } = await auditDatabase(own);
  const directory = join(temporaryDirectory(t), 'shelf');
  await own.pause();
  const first = new PolicyStore({ directory, databaseUrl: writer, clock: systemClock, logger: silentLogger });
  await first.keep([bundleOf('while it is away'), grantsOf('{}')]);
  const error = await eventually('it says why', () => first.status().error);
  assert.match(error, /ECONNREFUSED/);
  assert.equal(first.status().waiting, 2);
  await first.close();
  assert.equal(readdirSync(directory).length, 2);

  const damaged = join(directory, readdirSync(directory).find((name) => name.startsWith('grants-')) ?? '');
  writeFileSync(damaged, readFileSync(damaged, 'utf8').replace('{}', '[]'));
  writeFileSync(join(directory, `bundle-${'a'.repeat(64)}.tmp`), 'cut');
  const second = openStore(t, writer, directory);
  await eventually('it tries', () => second.status().error);
  await own.resume();
  await empty(second);
  assert.deepEqual(
    (await rowsOf(owner, 'select content from audit.bundle')).map((row) => String(row['content'])),
    ['while it is away'],
  );
  assert.deepEqual(
    await rowsOf(owner, 'select sha256 from audit.bundle_grants'),
    [],
    'what is damaged is not sent',
  );
  assert.deepEqual(readdirSync(directory), []);
});

test('the database checks the digest and the bound, and keeps what came first', async () => {
  const { owner, writer } = await auditDatabase(server);
  const store = 'select audit.store_bundle($1, $2, 1, $3, $4::jsonb) as stored';
  const { sha256, content } = bundleOf('true bytes');
  const refused = (values: unknown[], pattern: RegExp): Promise<void> =>
    assert.rejects(rowsOf(writer, store, values), (error: { code?: string; message: string }) => {
      assert.equal(error.code, 'SA002');
      assert.match(error.message, pattern);
      return true;
    });
  await refused([sha256, 'r', Buffer.from('other bytes'), '[]'], /does not have the digest/);
  await refused([sha256.toUpperCase(), 'r', content, '[]'], /does not have the digest/);
  await refused([sha256, 'r', Buffer.alloc(0), '[]'], /0 bytes/);
  const large = Buffer.alloc(64 * 1024 * 1024 + 1);
  await refused([digestOf(large), 'r', large, '[]'], /67108865 bytes/);
  await refused([sha256, 'r', content, '{}'], /no list/);
  assert.deepEqual(await rowsOf(writer, store, [sha256, 'first', content, '[]']), [{ stored: true }]);
  assert.deepEqual(await rowsOf(writer, store, [sha256, 'second', content, '[]']), [{ stored: false }]);
  assert.deepEqual(await rowsOf(owner, 'select revision from audit.bundle'), [{ revision: 'first' }]);
});

test('readers have the catalog, verifiers the content, writers neither', async () => {
  const { owner, writer } = await auditDatabase(server);
  await ensureReaderRole(owner, 'reader_1', TEST_PASSWORD);
  await ensureVerifierRole(owner, 'verifier_1', TEST_PASSWORD);
  const [reader, verifier] = [urlAs(owner, 'reader_1'), urlAs(owner, 'verifier_1')];
  const refused = (url: string, sql: string): Promise<void> =>
    assert.rejects(
      onDatabase(url, (client) => client.query(sql)),
      (error: { code?: string }) => error.code === '42501',
      sql,
    );
  for (const url of [reader, verifier]) {
    await rowsOf(url, 'select sha256, revision, sequence, first_seen_at from audit.bundle');
    await rowsOf(url, 'select * from audit.bundle_rule');
    await rowsOf(url, 'select sha256 from audit.bundle_grants');
    await rowsOf(url, 'select * from audit.policy_rollout');
    await rowsOf(url, 'select * from audit.policy_health');
    await refused(url, "select audit.store_grants('', '')");
    await refused(url, "select audit.stored_content('{}', '{}')");
  }
  for (const table of ['bundle', 'bundle_grants']) {
    await rowsOf(verifier, `select content from audit.${table}`);
    await refused(reader, `select content from audit.${table}`);
    await refused(writer, `select sha256 from audit.${table}`);
    await refused(owner, `update audit.${table} set content = ''`);
    await refused(
      writer,
      `insert into audit.${table} (sha256, first_seen_at, content) values ('', now(), '')`,
    );
  }
  await refused(writer, 'select * from audit.bundle_rule');
  await refused(writer, 'select * from audit.policy_rollout');
});
