import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  EVENT_TYPES,
  ensureReaderRole,
  ensureVerifierRole,
  ensureWriterRole,
  migrate,
  roleSql,
} from '../../src/audit/index.ts';
import { openAuditKey } from '../../src/audit/seal/audit-key.ts';
import { leafHash, merkleRoot } from '../../src/audit/seal/merkle.ts';
import { type Seal, type SignedSeal, signSeal } from '../../src/audit/seal/seal.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import {
  auditDatabase,
  MIGRATIONS,
  onDatabase,
  rowsOf,
  streamId,
  TEST_PASSWORD,
  urlAs,
} from './audit-fixture.ts';

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

const CHAIN = streamId(77);

const canonicalEvent = (seq: number, extra = ''): Buffer =>
  Buffer.from(
    `{"at":"2026-01-02T03:04:05.${String(seq).padStart(3, '0')}Z","chain":"${CHAIN}","data":{${extra}},"id":"${streamId(seq)}","origin":{"kind":"agent","name":"a","namespace":"n"},"subject":{},"type":"agent.started","v":1}`,
  );

/** Seals as a writer would make them, one after the other. */
const sealer = (directory: string) => {
  const key = openAuditKey(`${directory}/key.pem`);
  let last: SignedSeal | undefined;
  return (
    events: readonly Buffer[],
    overrides: Partial<Seal> = {},
  ): SignedSeal & { events: readonly Buffer[] } => {
    const first = (last?.seal.last ?? 0) + 1;
    const signed = signSeal(
      {
        v: 1,
        alg: 'Ed25519',
        chain: CHAIN,
        batch: (last?.seal.batch ?? 0) + 1,
        first,
        last: first + events.length - 1,
        n: events.length,
        dropped: 0,
        root: merkleRoot(events.map(leafHash)).toString('hex'),
        prev: last?.digest.toString('hex') ?? null,
        prev_chain: null,
        signer: key.signer,
        time: '2026-01-02T03:04:06.000Z',
        epoch: 1,
        final: false,
        ...overrides,
      },
      key,
    );
    if (Object.keys(overrides).length === 0) last = signed;
    return { ...signed, events };
  };
};

const append = async (
  url: string,
  ...seals: (SignedSeal & { events: readonly Buffer[] })[]
): Promise<string[]> => {
  const events = seals.flatMap((seal) => seal.events);
  const rows = await rowsOf(url, 'select outcome from audit.append($1, $2, $3, $4, now())', [
    seals.map((seal) => seal.text),
    Buffer.concat(seals.map((seal) => seal.signature)),
    Buffer.concat(events),
    events.map((event) => event.length),
  ]);
  return rows.map((row) => row.outcome as string);
};

test('audit.append: stored, then the same again is acknowledged, and nothing is stored twice', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const seal = sealer(temporaryDirectory(t));
  const one = seal([canonicalEvent(1), canonicalEvent(2)]);
  const two = seal([canonicalEvent(3)]);
  assert.deepEqual(await append(writer, one), ['stored']);
  assert.deepEqual(await append(writer, one, two), ['acknowledged', 'stored']);
  assert.deepEqual(await append(writer, one, two), ['acknowledged', 'acknowledged']);
  const [count] = await rowsOf(
    owner,
    'select (select count(*)::int from audit.event) as events, (select count(*)::int from audit.seal) as seals, (select count(*)::int from audit.seal_leaves) as leaves',
  );
  assert.deepEqual(count, { events: 3, seals: 2, leaves: 2 });
});

test('audit.append: another seal for a place that is taken raises the fork alarm and stores nothing', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const seal = sealer(temporaryDirectory(t));
  const one = seal([canonicalEvent(1)]);
  const two = seal([canonicalEvent(2)]);
  assert.deepEqual(await append(writer, one, two), ['stored', 'stored']);
  const other = seal([canonicalEvent(2, '"other":1')], {
    batch: 2,
    first: 2,
    last: 2,
    prev: one.digest.toString('hex'),
  });
  assert.deepEqual(await append(writer, other), ['fork']);
  const wrongPrevious = seal([canonicalEvent(3)], {
    batch: 3,
    first: 3,
    last: 3,
    prev: one.digest.toString('hex'),
  });
  assert.deepEqual(await append(writer, wrongPrevious), ['fork']);
  assert.deepEqual(await rowsOf(owner, 'select fork_alarms, events::int from audit.chain'), [
    { fork_alarms: 2, events: 2 },
  ]);
});

test('audit.append: gaps, wrong counts and ended chains are refused', async (t) => {
  const { writer } = await auditDatabase(server);
  const seal = sealer(temporaryDirectory(t));
  const one = seal([canonicalEvent(1)]);
  assert.deepEqual(await append(writer, { ...seal([canonicalEvent(9)], { batch: 4 }) }), ['gap']);
  assert.deepEqual(await append(writer, one), ['stored']);
  const prev = one.digest.toString('hex');
  assert.deepEqual(await append(writer, seal([canonicalEvent(9)], { batch: 3, first: 2, last: 2, prev })), [
    'gap',
  ]);
  assert.deepEqual(await append(writer, seal([canonicalEvent(9)], { batch: 2, first: 5, last: 5, prev })), [
    'gap',
  ]);
  await assert.rejects(append(writer, seal([canonicalEvent(2)], { n: 2, last: 3 })), { code: 'SA001' });
  await assert.rejects(append(writer, seal([canonicalEvent(2)], { last: 3 })), { code: 'SA001' });
  const final = seal([], { batch: 2, first: 2, last: 1, n: 0, prev, final: true });
  assert.deepEqual(await append(writer, final), ['stored']);
  const late = seal([canonicalEvent(2)], { batch: 3, first: 2, last: 2, prev: final.digest.toString('hex') });
  assert.deepEqual(await append(writer, late), ['fork']);
});

test('audit.append: a chain belongs to the login that opened it', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  await ensureWriterRole(owner, 'writer_2', TEST_PASSWORD);
  const seal = sealer(temporaryDirectory(t));
  assert.deepEqual(await append(writer, seal([canonicalEvent(1)])), ['stored']);
  const two = seal([canonicalEvent(2)]);
  assert.deepEqual(await append(urlAs(owner, 'writer_2'), two), ['not_owner']);
  assert.deepEqual(await append(writer, two), ['stored']);
});

test('audit.append: bytes that no column can take are stored as they are', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const seal = sealer(temporaryDirectory(t));
  const poison = [
    Buffer.from('not json'),
    Buffer.from([0xff, 0x00, 0xfe]),
    Buffer.from('{"at":"\\u0000"}'),
    Buffer.from('{"at":"2026-99-99T00:00:00Z","v":"x"}'),
    Buffer.from('{"id":"not-a-uuid"}'),
    Buffer.from('{"subject":{"client_addr":"fe80::1%eth0","target_port":1e99}}'),
    Buffer.from('{"subject":[],"data":5}'),
    Buffer.from('{"v":1e400}'),
    Buffer.alloc(0),
  ];
  const events = [canonicalEvent(1), ...poison, canonicalEvent(2)];
  assert.deepEqual(await append(writer, seal(events)), ['stored']);
  const rows = await rowsOf(
    owner,
    'select seq::int, type, projection_error, canonical from audit.event order by seq',
  );
  assert.deepEqual(
    rows.map((row) => (row.canonical as Buffer).toString('hex')),
    events.map((event) => event.toString('hex')),
  );
  assert.deepEqual([rows[0]?.type, rows.at(-1)?.type], ['agent.started', 'agent.started']);
  for (const row of rows.slice(1, -1)) assert.match(String(row.projection_error), /^sqlstate (22|23)/);
});

const TABLES = [
  'event',
  'event_default',
  'seal',
  'seal_leaves',
  'seal_leaves_default',
  'checkpoint',
  'bundle',
  'bundle_rule',
  'bundle_grants',
  'retention',
];

const refused = async (url: string, sql: string): Promise<void> => {
  await assert.rejects(
    onDatabase(url, (client) => client.query(sql)),
    (error: { code?: string }) => error.code === '42501',
    sql,
  );
};

test('update, delete and truncate are refused on parents and on each partition, even to the owner', async () => {
  const { owner } = await auditDatabase(server);
  const partitions = await rowsOf(
    owner,
    "select c.relname from pg_inherits as i join pg_class as c on c.oid = i.inhrelid where c.relnamespace = 'audit'::regnamespace and c.relkind = 'r'",
  );
  assert.equal(partitions.length, 2 * 16);
  for (const name of [...TABLES, ...partitions.map((row) => String(row.relname))]) {
    await refused(owner, `delete from audit.${name}`);
    await refused(owner, `truncate audit.${name}`);
  }
  await refused(owner, 'update audit.event set canonical = canonical');
  await refused(owner, 'update audit.event_default set seq = 1');
  await refused(owner, 'update audit.seal set dropped = 0');
});

test('each role may do its own and nothing else', async () => {
  const { owner, writer } = await auditDatabase(server);
  await ensureReaderRole(owner, 'reader_1', TEST_PASSWORD);
  await ensureVerifierRole(owner, 'verifier_1', TEST_PASSWORD);
  const reader = urlAs(owner, 'reader_1');
  const verifier = urlAs(owner, 'verifier_1');
  for (const url of [writer, reader, verifier]) {
    for (const table of TABLES) {
      await refused(url, `delete from audit.${table}`);
      await refused(url, `truncate audit.${table}`);
      await refused(url, `drop table audit.${table}`);
      await refused(url, `alter table audit.${table} disable trigger all`);
    }
    await refused(
      url,
      "insert into audit.event (recorded_at, chain_id, seq, canonical) values (now(), gen_random_uuid(), 1, '')",
    );
    await refused(url, "update audit.chain set head = ''");
    await refused(url, 'select audit.ensure_partitions()');
    await refused(url, "select audit.store_events(now(), gen_random_uuid(), 1, 0, '{}')");
    await refused(url, 'create table audit.mine (x int)');
    await refused(url, 'set role audit_owner');
    await refused(url, "copy audit.event to '/tmp/x'");
  }
  for (const table of ['event', 'seal', 'chain', 'decisions', 'health'])
    await refused(writer, `select 1 from audit.${table}`);
  for (const table of ['event', 'seal', 'seal_leaves', 'chain', 'signer'])
    await refused(reader, `select 1 from audit.${table}`);
  for (const url of [reader, verifier]) {
    await refused(url, "select * from audit.append('{}', '', '', '{}', now())");
    await rowsOf(url, 'select * from audit.timeline');
    await rowsOf(url, "select * from audit.decisions_between('2026-01-01', '2026-02-01')");
  }
  await rowsOf(verifier, 'select * from audit.seal');
});

test('every table, column, view and function has a comment', async () => {
  const { owner } = await auditDatabase(server);
  const missing = await rowsOf(
    owner,
    `select c.relname, a.attname from pg_class as c
     left join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     where c.relnamespace = 'audit'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
       and c.relname <> 'schema_migrations'
       and (obj_description(c.oid) is null or col_description(c.oid, a.attnum) is null)
     union all
     select p.proname, 'function' from pg_proc as p
     where p.pronamespace = 'audit'::regnamespace and obj_description(p.oid, 'pg_proc') is null`,
  );
  assert.deepEqual(missing, []);
});

test('audit.event_type holds the union', async () => {
  const { owner } = await auditDatabase(server);
  const rows = await rowsOf(owner, 'select * from audit.event_type');
  assert.deepEqual(
    Object.fromEntries(rows.map(({ type, ...event }) => [type, event])),
    Object.fromEntries(Object.entries(EVENT_TYPES).map(([type, event]) => [type, { ...event }])),
  );
});

test('migrate is idempotent, refuses a newer schema, and runs without making roles', async (t) => {
  const { owner } = await auditDatabase(server);
  const options = { databaseUrl: owner, schema: 'audit' as const, directory: MIGRATIONS, roles: true };
  assert.deepEqual((await migrate(options)).applied, []);
  assert.match(roleSql(MIGRATIONS), /audit_ingest/);
  const other = await server.createDatabase();
  assert.ok((await migrate({ ...options, databaseUrl: other, roles: false })).applied.length > 0);
  await rowsOf(owner, "insert into audit.schema_migrations (name, run_on) values ('9999_future', now())");
  await assert.rejects(migrate(options), { code: 'ERR_AUDIT_SCHEMA_NEWER' });
  await assert.rejects(migrate({ ...options, databaseUrl: 'postgres://x:y@127.0.0.1:1/z' }), {
    code: 'ERR_AUDIT_DATABASE',
  });
  await assert.rejects(migrate({ ...options, databaseUrl: other, directory: temporaryDirectory(t) }), {
    code: 'ERR_AUDIT_SCHEMA_NEWER',
  });
});
