import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  AuditReader,
  ensureReaderRole,
  findNamedQuery,
  followEvents,
  NAMED_QUERIES,
  type Row,
  runNamedQuery,
  showStream,
} from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { auditDatabase, decision, ending, openLog, streamId, TEST_PASSWORD, urlAs } from './audit-fixture.ts';

let server: TestPostgres;
let reader: AuditReader;
let readerUrl: string;
let writeMore: (number: number) => Promise<void>;
let closeLog: () => Promise<void>;
const KEY = 'k_0123456789abcdef0123';

before(async () => {
  server = await startPostgres();
  const { owner, writer } = await auditDatabase(server);
  await ensureReaderRole(owner, 'reader_1', TEST_PASSWORD);
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-query-'));
  const log = await openLog(directory, { database: { url: writer } });
  const linkId = streamId(1_000_000);
  await log.record({
    type: 'link.opened',
    subject: { link_id: linkId, connection: 'orders-db' },
    data: { side: 'agent' },
  });
  await log.record({ ...decision(1), at_ms: Date.UTC(2026, 5, 1, 20) });
  await log.record(ending(1));
  await log.record(decision(2));
  await log.record(decision(3, false));
  await log.record({
    type: 'key.revoked',
    subject: { key_id: KEY, actor: 't_1' },
    data: { reason: 'leaked', revocation_id: 'r-1' },
  });
  await log.record({
    type: 'revocation.enforced',
    subject: { key_id: KEY },
    data: { revocation_id: 'r-1', links: 1, streams: 1, ms: 12 },
  });
  await log.record({ ...ending(2), data: { reason: 'key_revoked', bytes_up: 1, bytes_down: 1 } } as never);
  await log.record(decision(4));
  await log.record({
    type: 'auth.failed',
    subject: { connection: 'orders-db' },
    data: { claimed_key_name: 'x', code: 'bad_signature', address: '203.0.113.9', count: 4 },
  });
  await log.record({
    type: 'connection.changed',
    subject: { connection: 'orders-db', actor: 't_1' },
    data: { before: { port: 1 }, after: { port: 2 } },
  });
  await log.flush(20_000);
  writeMore = async (number) => {
    await log.record(decision(number));
    await log.flush(20_000);
  };
  closeLog = async () => {
    await log.close();
    rmSync(directory, { recursive: true, force: true });
  };
  readerUrl = urlAs(owner, 'reader_1');
  reader = await AuditReader.connect(readerUrl);
});
after(async () => {
  await closeLog();
  await reader.close();
  await server.stop();
});

const answers: Readonly<
  Record<string, { given?: Record<string, string>; check: (rows: readonly Row[]) => void }>
> = {
  'target-access': { given: { target: 'sql01.corp.example' }, check: (rows) => assert.equal(rows.length, 3) },
  'out-of-hours': {
    given: { to: '2026-06-02T00:00:00Z' },
    check: (rows) =>
      assert.deepEqual(
        rows.map((row) => row.stream_id),
        [streamId(1)],
      ),
  },
  'key-history': { given: { key: KEY }, check: (rows) => assert.equal(rows.length, 8) },
  denials: {
    check: (rows) =>
      assert.deepEqual(
        rows.map((row) => [row.reason, row.denials]),
        [['no_stream_rule', '1']],
      ),
  },
  'first-pairs': { given: { from: '-infinity' }, check: (rows) => assert.equal(rows.length, 1) },
  'revocation-cuts': {
    check: (rows) =>
      assert.deepEqual([rows[0]?.reason, rows[0]?.slowest_ms, rows[0]?.streams_recorded], ['leaked', 12, 1]),
  },
  'key-changes': {
    check: (rows) =>
      assert.deepEqual(
        rows.map((row) => [row.type, row.actor]),
        [['key.revoked', 't_1']],
      ),
  },
  'slot-usage': {
    check: (rows) =>
      assert.deepEqual(
        rows.map((row) => [row.key_slot, row.allowed, row.denied]),
        [['primary', 3, 1]],
      ),
  },
  'bundle-at': { given: { agent: 'agent-1' }, check: (rows) => assert.equal(rows[0]?.bundle_sequence, 7) },
  'top-talkers': {
    check: (rows) => assert.deepEqual([rows[0]?.principal, rows[0]?.bytes_down], ['orders-app', '2001']),
  },
  'auth-failures': {
    check: (rows) =>
      assert.deepEqual(
        [rows[0]?.claimed_key_name, rows[0]?.address, rows[0]?.failures],
        ['x', '203.0.113.9', '4'],
      ),
  },
  gaps: { check: (rows) => assert.deepEqual([rows[0]?.state, rows[0]?.breaks], ['live', 1]) },
  'target-changes': {
    check: (rows) =>
      assert.deepEqual(
        rows.map((row) => row.after),
        [{ port: 2 }],
      ),
  },
  'open-now': {
    check: (rows) =>
      assert.deepEqual(
        rows.map((row) => [row.stream_id, row.certainty]),
        [[streamId(4), 'open']],
      ),
  },
};

test('every named query has an expected answer here', () => {
  assert.deepEqual(NAMED_QUERIES.map((query) => query.name).sort(), Object.keys(answers).sort());
});

for (const query of NAMED_QUERIES) {
  test(`query ${query.name} answers as role audit_read`, async () => {
    const { rows } = await runNamedQuery(reader, query, answers[query.name]?.given ?? {});
    answers[query.name]?.check(rows);
  });
}

test('a query names parameters that it does not have, and those it needs', () => {
  const query = findNamedQuery('key-history')!;
  assert.throws(() => runNamedQuery(reader, query, { kez: 'x' }), { code: 'ERR_AUDIT_QUERY_UNKNOWN' });
  assert.throws(() => runNamedQuery(reader, query, {}), { code: 'ERR_AUDIT_QUERY_UNKNOWN' });
});

test("a user's SQL cannot write, and only one statement runs", async () => {
  const owner = await AuditReader.connect(server.url);
  for (const sql of [
    'create table x (y int)',
    'commit; create table x (y int)',
    'select 1; select 2',
    'nonsense',
  ]) {
    await assert.rejects(owner.query(sql), { code: 'ERR_AUDIT_QUERY_FAILED' });
  }
  await owner.query('commit');
  await assert.rejects(owner.query('create table x (y int)'), { code: 'ERR_AUDIT_QUERY_FAILED' });
  assert.deepEqual((await owner.query('select 1::bigint as one')).rows, [{ one: 1 }]);
  await owner.close();
  await assert.rejects(AuditReader.connect('postgres://x:y@127.0.0.1:1/z'), { code: 'ERR_AUDIT_DATABASE' });
});

test('show tells decisions, end and links of a stream', async () => {
  const story = await showStream(reader, streamId(1));
  assert.deepEqual(
    story.decisions.map((row) => row.action),
    ['allowed'],
  );
  assert.equal(story.decisions[0]?.input, '{"action":"stream","v":1}');
  assert.deepEqual(
    story.streams.map((row) => row.close_reason),
    ['client_fin'],
  );
  assert.deepEqual(story.events.map((row) => row.type).sort(), [
    'link.opened',
    'stream.close',
    'stream.decision',
  ]);
  await assert.rejects(showStream(reader, streamId(99)), { code: 'ERR_AUDIT_STREAM_UNKNOWN' });
  await assert.rejects(showStream(reader, 'x'), { code: 'ERR_AUDIT_STREAM_UNKNOWN' });
});

test('tail shows each event once, as it is stored', async () => {
  const follower = await AuditReader.connect(readerUrl);
  const stop = new AbortController();
  const seen: Row[] = [];
  const done = followEvents({
    reader: follower,
    clock: systemClock,
    signal: stop.signal,
    sinceMs: 600_000,
    type: 'stream.*',
    onEvent: (row) => seen.push(row),
  });
  await eventually('what was there', () => (seen.length >= 6 ? true : undefined));
  await writeMore(50);
  await eventually('what is new', () =>
    seen.some((row) => row.stream_id === streamId(50)) ? true : undefined,
  );
  stop.abort();
  await done;
  await follower.close();
  assert.equal(new Set(seen.map((row) => row.event_id)).size, seen.length);
  assert.ok(seen.every((row) => String(row.type).startsWith('stream.')));
});
