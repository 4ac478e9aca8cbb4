import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  addSigner,
  type AuditEventInput,
  type AuditLog,
  AuditReader,
  createAuditRoot,
  ensureImporterRole,
  ensureWriterRole,
  EXPORTER_KIND,
  exportEvidence,
  findDecisions,
  type GivenValues,
  hoursOfUse,
  importEvidence,
  NAMED_QUERIES,
  openAuditKey,
  recordedDecisions,
  runNamedQuery,
  showStream,
} from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import {
  type AnyRow,
  auditDatabase,
  decision,
  ending,
  onDatabase,
  openLog,
  rowsOf,
  streamId,
  tamper,
  TEST_PASSWORD,
  urlAs,
} from './audit-fixture.ts';

const SITE = 'berlin';
const IMPORTER = 'importer_berlin';
const FLUSH_MS = 20_000;
const OURS = 'ab'.repeat(32);
const THEIRS = 'cd'.repeat(32);
const CHANGE = '01977000-0000-7000-8000-000000000001';
const at = (hour: number): number => Date.UTC(2026, 5, 3, hour);
const link = (number: number): string => streamId(2_000_000 + number);

const activated = (sha256: string, sequence: number, hour: number): AuditEventInput => ({
  type: 'bundle.activated',
  at_ms: at(hour),
  subject: {},
  data: {
    bundle: { sha256, revision: `r${String(sequence)}`, sequence },
    signed_by: `key-${String(sequence)}`,
  },
});

const linkEvent = (
  type: 'link.opened' | 'link.closed',
  number: number,
  bytes: number,
  subject: AuditEventInput['subject'] = {},
): AuditEventInput => ({
  type,
  at_ms: at(10),
  subject: { link_id: link(number), connection: 'orders-db', principal: 'orders-app', ...subject },
  data: {
    carrier: 'tcp',
    node: 'relay-1',
    ...(type === 'link.opened' ? {} : { reason: 'link_lost', bytes_up: bytes, bytes_down: bytes }),
  },
});

const decided = (number: number, hour: number, rule = 'orders-app', allow = true): AuditEventInput => {
  const event = decision(number, allow);
  const data = { ...event.data, ...(allow ? { rule, rules: { publish: [], stream: [rule] } } : {}) };
  return { ...event, at_ms: at(hour), data } as AuditEventInput;
};

const revoked = (id?: string): AuditEventInput => ({
  type: 'key.revoked',
  id,
  at_ms: at(11),
  subject: { actor: 't_1', key_id: 'k_0123456789abcdef0123', key_slot: 'primary' },
  data: { reason: 'leaked', revocation_id: 'r-1' },
});

const enforced = (streams: number): AuditEventInput => ({
  type: 'revocation.enforced',
  at_ms: at(11),
  subject: {},
  data: { revocation_id: 'r-1', links: streams, streams, ms: streams },
});

/** What happened here: an open stream, a closed one, a link that agrees and one that only the relay saw closed. */
const agentEvents: readonly AuditEventInput[] = [
  activated(OURS, 7, 6),
  decided(1, 8),
  decided(2, 8),
  { ...ending(2), at_ms: at(9) },
  decided(3, 9, '', false),
  linkEvent('link.opened', 1, 0),
  linkEvent('link.closed', 1, 100),
  linkEvent('link.opened', 2, 0),
  // An event's word on its site makes nobody another site.
  { ...decided(4, 9), subject: { ...decision(4).subject, site: SITE } },
];
const relayEvents: readonly AuditEventInput[] = [
  linkEvent('link.closed', 1, 100, { agent: 'agent-1' }),
  linkEvent('link.closed', 2, 100, { agent: 'agent-1' }),
  revoked(),
  enforced(1),
  { type: 'auth.failed', at_ms: at(7), subject: {}, data: { claimed_key_name: 'x', code: 'bad', count: 4 } },
];

/** What another site, whose processes have the same names, would have to say to change our answers. */
const theirAgentEvents: readonly AuditEventInput[] = [
  activated(THEIRS, 9, 12),
  {
    type: 'bundle.held',
    at_ms: at(13),
    subject: {},
    data: { reason: 'max_close', would_close: 9 },
  },
  // Ends our open stream, contradicts our links, uses our unused rule, and pairs us earlier.
  { ...ending(1), at_ms: at(9) },
  { ...ending(4), at_ms: at(9) },
  linkEvent('link.closed', 1, 999),
  linkEvent('link.closed', 2, 100),
  decided(5, 1, 'grant-unused'),
  decided(6, 8, 'removed-rule'),
  decided(2, 14, 'orders-app', false),
  decided(1, 15),
];
const theirRelayEvents: readonly AuditEventInput[] = [
  linkEvent('link.closed', 1, 1, { agent: 'agent-1' }),
  enforced(50),
  revoked(CHANGE),
  { type: 'auth.failed', at_ms: at(7), subject: {}, data: { claimed_key_name: 'x', code: 'bad', count: 9 } },
];

let server: TestPostgres;
let directory: string;
let owner: string;
let importer: string;
let reader: AuditReader;
const logs: AuditLog[] = [];
/** Rows of every view and question before anything was imported, of this site. */
let viewsBefore: ReadonlyMap<string, readonly AnyRow[]>;
let answersBefore: ReadonlyMap<string, readonly AnyRow[]>;
let decisionsBefore: readonly string[];
let hoursBefore: readonly unknown[];

const origin = { instance: 'instance-1', namespace: 'relay.example.com', version: '0.1.0', zone: 'UTC' };

const write = async (
  place: string,
  url: string,
  kind: 'agent' | 'relay',
  events: readonly AuditEventInput[],
): Promise<AuditLog> => {
  const name = `${kind}-1`;
  const log = await openLog(join(directory, place), { database: { url }, origin: { ...origin, kind, name } });
  logs.push(log);
  for (const event of events) await log.record(event);
  assert.ok(await log.flush(FLUSH_MS));
  return log;
};

const GIVEN: GivenValues = {
  target: 'sql01.corp.example',
  key: 'k_0123456789abcdef0123',
  agent: 'agent-1',
  before: '7',
  after: '9',
  from: '-infinity',
  to: 'infinity',
  since: '2026-06-02',
  days: '36500',
};

/** Rise by themselves. */
const MOVING = new Set([
  'silent_seconds',
  'last_recorded_at',
  'last_sealed_at',
  'lag_seconds',
  'sealed_until',
]);

/** Our rows, in an order of their own. */
const ofHere = (rows: readonly AnyRow[]): readonly AnyRow[] =>
  rows
    .filter((row) => (row['site'] ?? null) === null)
    .map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => !MOVING.has(name))))
    .sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));

const viewNames = async (): Promise<string[]> => {
  const rows = await rowsOf(
    owner,
    "select viewname from pg_views where schemaname = 'audit' order by viewname",
  );
  return rows.map((row) => String(row['viewname']));
};

const allViews = async (): Promise<Map<string, readonly AnyRow[]>> => {
  const found = new Map<string, readonly AnyRow[]>();
  for (const name of await viewNames()) found.set(name, await rowsOf(owner, `select * from audit.${name}`));
  return found;
};

const allAnswers = async (): Promise<Map<string, readonly AnyRow[]>> => {
  const found = new Map<string, readonly AnyRow[]>();
  for (const query of NAMED_QUERIES) {
    const names = query.parameters.map(({ name }) => name);
    const given = Object.fromEntries(Object.entries(GIVEN).filter(([name]) => names.includes(name)));
    found.set(query.name, (await runNamedQuery(reader, query, given, systemClock)).rows);
  }
  return found;
};

const RANGE = { from: '2026-01-01T00:00:00Z', to: '2027-01-01T00:00:00Z' };

const replayed = async (): Promise<string[]> => {
  const found: string[] = [];
  for await (const page of recordedDecisions(reader, RANGE))
    found.push(...page.decisions.map(({ eventId }) => eventId));
  return found.sort();
};

const hours = async (): Promise<unknown[]> => {
  const found: unknown[] = [];
  for await (const use of hoursOfUse(reader, RANGE)) found.push(use);
  return found;
};

const fillCatalog = (url: string): Promise<void> =>
  onDatabase(url, async (client) => {
    for (const [sha256, sequence, ...rules] of [
      [OURS, 7, 'orders-app', 'grant-unused'],
      [THEIRS, 9, 'theirs'],
    ] as const) {
      await client.query(
        `insert into audit.bundle (sha256, revision, sequence, first_seen_at, content)
         values ($1, 'r' || $2::bigint, $2, '2026-06-01', '\\x00')`,
        [sha256, sequence],
      );
      for (const rule of rules)
        await client.query(
          `insert into audit.bundle_rule (bundle_sha256, rule_id, action, connection, expires)
           values ($1, $2, 'stream', 'orders-db', '2027-01-01')`,
          [sha256, rule],
        );
    }
  });

/** Exports what the other site has, as its operator does. */
const exportTheirs = async (url: string): Promise<{ trustFile: string; out: string }> => {
  const files = { rootKeyFile: join(directory, 'root.pem'), trustFile: join(directory, 'trust.json') };
  createAuditRoot(files);
  for (const [place, kind] of [
    ['their-agent', 'agent'],
    ['their-relay', 'relay'],
    ['.', EXPORTER_KIND],
  ] as const) {
    const { publicKey } = openAuditKey(join(directory, place, 'audit-key.pem'));
    addSigner({ ...files, publicKey, kind, name: kind, clock: systemClock });
  }
  const out = join(directory, 'export');
  const key = openAuditKey(join(directory, 'audit-key.pem'));
  const interval = { from: undefined, to: undefined };
  const clock = systemClock;
  await exportEvidence({ databaseUrl: url, interval, notice: undefined, directory: out, key, clock });
  return { trustFile: files.trustFile, out };
};

before(async () => {
  server = await startPostgres();
  directory = mkdtempSync(join(tmpdir(), 'sallyport-sites-'));
  const here = await auditDatabase(server);
  ({ owner } = here);
  await ensureWriterRole(owner, 'writer_2', TEST_PASSWORD);
  await ensureImporterRole(owner, IMPORTER, TEST_PASSWORD, SITE);
  importer = urlAs(owner, IMPORTER);
  await fillCatalog(owner);
  reader = await AuditReader.connect(owner);
  await write('agent', here.writer, 'agent', agentEvents);
  await write('relay', urlAs(owner, 'writer_2'), 'relay', relayEvents);

  const there = await auditDatabase(server);
  await (await write('their-agent', there.writer, 'agent', theirAgentEvents)).close();
  const relay = await write('their-relay', there.writer, 'relay', theirRelayEvents);

  viewsBefore = await allViews();
  answersBefore = await allAnswers();
  decisionsBefore = await replayed();
  hoursBefore = await hours();
  const { trustFile, out } = await exportTheirs(there.owner);
  const report = await importEvidence({ databaseUrl: importer, directory: out, trustFile, root: undefined });
  assert.equal(report.site, SITE);
  await relay.close();
});
after(async () => {
  await reader.close();
  for (const log of logs) await log.close();
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** About what runs or is in force here: nothing of another site is shown. */
const OF_HERE_ALONE = ['policy_health', 'policy_rollout', 'retained', 'rules', 'unused_grants'];

test('no view answers otherwise about this site because of what another one says', async () => {
  const now = await allViews();
  for (const [name, rows] of viewsBefore) {
    if (name !== 'retained') assert.ok(rows.length > 0, `${name} is empty: nothing is compared`);
    assert.deepEqual(ofHere(now.get(name) ?? []), ofHere(rows), name);
  }
});

test('views of what happened show the other site by its name, views of what runs here do not show it', async () => {
  for (const [name, rows] of await allViews()) {
    const sites = [...new Set(rows.map((row): unknown => row['site'] ?? null))].sort();
    assert.deepEqual(
      sites,
      OF_HERE_ALONE.includes(name) ? (rows.length === 0 ? [] : [null]) : [SITE, null],
      name,
    );
    if (OF_HERE_ALONE.includes(name)) assert.equal(rows.length, viewsBefore.get(name)?.length, name);
  }
});

test('no question is answered otherwise about this site; the other one is told by its name', async () => {
  const now = await allAnswers();
  for (const [name, rows] of answersBefore) assert.deepEqual(ofHere(now.get(name) ?? []), ofHere(rows), name);
  const named = [...now].filter(([, rows]) => rows.some((row) => row['site'] === SITE)).map(([name]) => name);
  assert.deepEqual(named.sort(), [
    'auth-failures',
    'denials',
    'first-pairs',
    'gaps',
    'key-changes',
    'key-history',
    'open-now',
    'out-of-hours',
    'reconciliation',
    'revocation-cuts',
    'slot-usage',
    'target-access',
    'top-talkers',
  ]);
});

test('what is replayed, proposed and counted as used is the traffic of this site', async () => {
  assert.equal(decisionsBefore.length, 4);
  assert.deepEqual(await replayed(), decisionsBefore);
  assert.deepEqual(await hours(), hoursBefore);
});

test('the chains of another site are neither silent nor live, and its open streams may have ended', async () => {
  const health = await rowsOf(
    owner,
    'select origin, state, lag_seconds, silent_seconds from audit.health where site is not null order by origin',
  );
  assert.deepEqual(health, [
    { origin: 'agent/agent-1', state: 'ended', lag_seconds: null, silent_seconds: null },
    { origin: 'relay/relay-1', state: 'imported', lag_seconds: null, silent_seconds: null },
  ]);
  const open = await rowsOf(
    owner,
    'select stream_id, site, certainty from audit.active_streams order by stream_id, site nulls first',
  );
  assert.deepEqual(
    open.map((row): unknown[] => [row['stream_id'], row['site'], row['certainty']]),
    [
      [streamId(1), null, 'open'],
      [streamId(4), null, 'open'],
      [streamId(5), SITE, 'unknown'],
      [streamId(6), SITE, 'unknown'],
    ],
  );
});

test('heads of this site go ahead of imported ones, however many those are', async () => {
  const heads = await rowsOf(owner, 'select chain_id from audit.recent_heads(gen_random_uuid(), 2)');
  assert.deepEqual(
    heads.map((row) => String(row['chain_id'])).sort(),
    logs
      .slice(0, 2)
      .map(({ chainId }) => chainId)
      .sort(),
  );
});

test('a change that another site claims under our id does not hide ours', async () => {
  const relay = logs[1] ?? assert.fail();
  await relay.record(revoked(CHANGE));
  assert.ok(await relay.flush(FLUSH_MS));
  const ids = [CHANGE];
  for (const view of ['timeline', 'admin_changes', 'revocations']) {
    const rows = await rowsOf(
      owner,
      `select site from audit.${view} where event_id = any ($1) order by site`,
      [ids],
    );
    assert.deepEqual(
      rows.map((row): unknown => row['site']),
      [SITE, null],
      view,
    );
  }
});

test('a stream id that both sites name is decided again as ours, and the story of it tells them apart', async () => {
  const decisions = await findDecisions(reader, streamId(1));
  assert.deepEqual(
    decisions.map(({ site }) => site),
    [null],
  );
  const theirs = await findDecisions(reader, streamId(5));
  assert.deepEqual(
    theirs.map(({ site }) => site),
    [SITE],
  );
  const { streams, decisions: told, events } = await showStream(reader, streamId(1));
  for (const rows of [streams, told, events])
    assert.deepEqual([...new Set(rows.map((row) => row['site']))].sort(), [SITE, null]);
});

test('a chain of another site that names ours as the one before does not hide that ours is silent', async () => {
  const [agent] = logs;
  assert.ok(agent !== undefined && (await agent.flush(FLUSH_MS)));
  const spool = join(directory, 'claims');
  cpSync(join(directory, 'agent'), spool, { recursive: true });
  rmSync(join(spool, 'spool', 'lock'), { force: true });
  await (await write('claims', importer, 'agent', [])).close();
  const claim = await rowsOf(owner, 'select site from audit.chain where prev_chain = $1', [agent.chainId]);
  assert.deepEqual(claim, [{ site: SITE }]);
  await tamper(
    owner,
    `update audit.chain set last_recorded_at = now() - interval '10 minutes' where chain_id = '${agent.chainId}'`,
  );
  const [row] = await rowsOf(owner, 'select state from audit.health where chain_id = $1', [agent.chainId]);
  assert.deepEqual(row, { state: 'silent' });
  const [policy] = await rowsOf(owner, 'select state, bundle_sequence from audit.policy_health');
  assert.deepEqual(policy, { state: 'silent', bundle_sequence: '7' });
});
