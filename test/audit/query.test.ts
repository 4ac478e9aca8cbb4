import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  type AuditEventInput,
  AuditReader,
  ensureReaderRole,
  findNamedQuery,
  followEvents,
  NAMED_QUERIES,
  type GivenValues,
  type QueryResult,
  type Row,
  runNamedQuery,
  showStream,
  standaloneSql,
  viewColumns,
} from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import {
  auditDatabase,
  decision,
  ending,
  openLog,
  rowsOf,
  streamId,
  TEST_PASSWORD,
  urlAs,
} from './audit-fixture.ts';

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

const run = (name: string, given: GivenValues): Promise<QueryResult> =>
  runNamedQuery(reader, findNamedQuery(name)!, given, systemClock);

test('a query refuses parameters that it does not have or cannot read, and asks for those it needs', async () => {
  for (const [given, message] of [
    [{ kez: 'x' }, 'query key-history has no parameter kez; it takes key, from, to'],
    [{}, 'query key-history needs key=… (key id)'],
    [{ key: 'x', from: 'soon' }, /from="soon" of query key-history is not like 30d/],
    [{ key: 'x', from: '2026-02-30' }, /from="2026-02-30"/],
  ] as const) {
    await assert.rejects(run('key-history', given), { code: 'ERR_AUDIT_QUERY_UNKNOWN', message });
  }
  for (const days of ['x', '-1', '99999999999']) {
    await assert.rejects(run('expiring-rules', { days }), { code: 'ERR_AUDIT_QUERY_UNKNOWN' });
  }
});

test('times are so long ago, days and instants', async () => {
  for (const from of [
    '1m',
    '2h',
    '30d',
    'yesterday',
    '-infinity',
    '2026-06-01',
    '2026-06-01T20:00:00+02:00',
  ]) {
    const { rows } = await run('key-history', { key: KEY, from });
    assert.ok(rows.length >= 7, from);
  }
  assert.deepEqual((await run('key-history', { key: KEY, to: '2026-06-01T20:00:00Z' })).rows, []);
  assert.equal((await run('key-history', { key: KEY, to: '2026-06-01T20:00:00.001Z' })).rows.length, 1);
});

test('a query as SQL that stands alone answers the same, quotes and all', async () => {
  for (const query of NAMED_QUERIES) {
    const given = Object.fromEntries(
      query.parameters
        .filter(({ fallback }) => fallback === undefined)
        .map(({ name }) => [name, name === 'key' ? KEY : "it's; --"]),
    );
    const sql = standaloneSql(query, given, systemClock);
    const [alone, named] = [await reader.query(sql), await run(query.name, given)];
    assert.deepEqual(alone.columns, named.columns, query.name);
    assert.equal(alone.rows.length, named.rows.length, query.name);
  }
});

test('the views that a reader may ask are listed with every column and what it means', async () => {
  const { rows } = await viewColumns(reader);
  const views = new Set(rows.map(({ view }) => view));
  for (const view of ['decisions', 'timeline', 'health', 'reconciliation', 'policy_rollout'])
    assert.ok(views.has(view), view);
  const asked = await reader.query('select * from audit.timeline limit 0');
  assert.deepEqual(
    rows.filter(({ view }) => view === 'timeline').map(({ column }) => column),
    asked.columns,
  );
  assert.deepEqual(
    rows.filter(({ means }) => means === ''),
    [],
  );
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

test('a stream that was decided twice while it was opened is one stream, of the last decision', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const directory = temporaryDirectory(t);
  const log = await openLog(directory, { database: { url: writer } });
  const under = (number: number, sequence: number): AuditEventInput => {
    const { data, ...event } = decision(number);
    return {
      ...event,
      data: { ...data, bundle: { sha256: String(sequence).repeat(64), revision: 'r', sequence } },
    } as AuditEventInput;
  };
  for (const sequence of [7, 8]) for (const number of [1, 2]) await log.record(under(number, sequence));
  await log.record(ending(1));
  // The same stream once more, by another attempt of the gateway: another opening.
  await log.record({ ...under(1, 8), subject: { ...decision(1).subject, attempt: 2 } });
  assert.equal(await log.flush(20_000), true);
  await log.close();
  const shown = async (view: string): Promise<unknown[][]> => {
    const rows = await rowsOf(
      owner,
      `select stream_id, attempt, bundle_sequence::int as sequence, state, bytes_up::int as up from audit.${view} order by stream_id, attempt`,
    );
    return rows.map((row): unknown[] => [
      row['stream_id'],
      row['attempt'],
      row['sequence'],
      row['state'],
      row['up'],
    ]);
  };
  const open = [
    [streamId(1), 2, 8, 'open', null],
    [streamId(2), 1, 8, 'open', null],
  ];
  assert.deepEqual(await shown('streams'), [[streamId(1), 1, 8, 'closed', 100], ...open]);
  assert.deepEqual(await shown('active_streams'), open);
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
