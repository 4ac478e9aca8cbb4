import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  AuditReader,
  type GivenValues,
  NAMED_QUERIES,
  type Row,
  runNamedQuery,
} from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { streamId, tamper } from './audit-fixture.ts';
import {
  DAY,
  KEY,
  linkId,
  NEW_BUNDLE,
  OLD_BUNDLE,
  questionsStore,
  type QuestionsStore,
} from './questions-store.ts';

let server: TestPostgres;
let store: QuestionsStore;
let reader: AuditReader;

before(async () => {
  server = await startPostgres();
  store = await questionsStore(server);
  reader = await AuditReader.connect(store.readerUrl);
});
after(async () => {
  await reader.close();
  await store.close();
  await server.stop();
});

interface Expected {
  readonly given?: GivenValues;
  /** Columns that are compared; all rows are. */
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
}

const instant = (time: string): string => `2026-06-03T${time}.000Z`;

const expected: Readonly<Record<string, Expected>> = {
  'target-access': {
    given: { target: 'sql01.corp.example', from: '2026-06-03T09:00:00Z', to: '2026-06-03T10:00:00Z' },
    columns: ['opened_at', 'closed_at', 'principal', 'policy_rule', 'bytes_up', 'close_reason', 'stream_id'],
    rows: [
      [instant('09:00:00'), instant('09:30:01'), 'reporting', 'old-rule', 10, 'key_revoked', streamId(4)],
      [
        instant('09:01:00'),
        instant('09:02:00'),
        'orders-app',
        'orders-app',
        52_428_800,
        'client_fin',
        streamId(5),
      ],
    ],
  },
  'out-of-hours': {
    given: DAY,
    columns: ['local_at', 'agent_zone', 'stream_id'],
    rows: [['2026-06-03T22:00:00', 'Europe/Berlin', streamId(2)]],
  },
  'first-pairs': {
    given: { from: '2026-06-03T11:00:00Z', to: DAY.to },
    columns: ['principal', 'target_host', 'first_at', 'streams'],
    rows: [
      ['batch', 'sql01.corp.example', instant('11:00:00'), 1],
      ['reporting', 'sql02.corp.example', instant('13:01:00'), 1],
    ],
  },
  'top-talkers': {
    given: DAY,
    columns: [
      'principal',
      'streams',
      'bytes_up',
      'bytes_down',
      'median_upload',
      'largest_upload',
      'unusual_uploads',
    ],
    rows: [
      ['orders-app', 4, 52_429_100, 8000, 100, 52_428_800, 1],
      ['batch', 1, 100, 2000, 100, 100, 0],
      ['reporting', 2, 10, 20, 10, 10, 0],
    ],
  },
  'open-now': {
    columns: ['stream_id', 'principal', 'policy_rule', 'allowed_until', 'certainty'],
    rows: [[streamId(9), 'reporting', 'reporting', instant('14:00:00'), 'open']],
  },
  'key-history': {
    given: { key: KEY },
    columns: ['type', 'stream_id'],
    rows: [1, 5, 6, 2].flatMap((number) => [
      ['stream.decision', streamId(number)],
      ...(number === 6 ? [['stream.decision', streamId(number)]] : []),
      ['stream.close', streamId(number)],
    ]),
  },
  'key-changes': {
    given: DAY,
    columns: ['type', 'key_id', 'actor', 'reason', 'before', 'after'],
    rows: [
      ['key.created', 'k_new', 't_1', null, null, { state: 'active' }],
      ['key.rotated', 'k_newer', 't_1', null, { key_id: 'k_new' }, { key_id: 'k_newer' }],
      ['key.disclosed', 'k_newer', 't_1', 'setting up', null, null],
      ['key.revoked', 'k_reporting', 't_1', 'leaked', { state: 'active' }, { state: 'revoked' }],
    ],
  },
  'slot-usage': {
    given: DAY,
    columns: ['key_slot', 'key_id', 'principal', 'last_used_at', 'allowed', 'denied', 'cut', 'sources'],
    rows: [
      ['primary', KEY, 'orders-app', instant('20:00:00'), 4, 0, 1, ['203.0.113.7']],
      ['primary', 'k_batch', 'batch', instant('13:00:00'), 1, 1, 0, ['203.0.113.7']],
      ['secondary', 'k_reporting', 'reporting', instant('13:01:00'), 2, 3, 0, ['203.0.113.7']],
    ],
  },
  'revocation-cuts': {
    columns: [
      'revoked_at',
      'key_id',
      'reason',
      'nodes',
      'streams',
      'slowest_ms',
      'streams_recorded',
      'last_stream_ms',
    ],
    rows: [[instant('09:30:00'), 'k_reporting', 'leaked', ['relay/relay-1'], 1, 12, 1, 1000]],
  },
  'auth-failures': {
    given: DAY,
    columns: ['claimed_key_name', 'code', 'address', 'failures', 'last_at'],
    rows: [['x', 'bad_signature', '203.0.113.9', 5, instant('07:08:00')]],
  },
  denials: {
    given: DAY,
    columns: ['reason', 'principal', 'decided_by', 'denials', 'first_at', 'recheck'],
    rows: [
      ['no_stream_rule', 'reporting', 'policy', 3, instant('08:30:00'), false],
      ['no_stream_rule', 'orders-app', 'policy', 1, instant('10:01:00'), true],
      ['policy:night', 'batch', 'policy', 1, instant('13:00:00'), false],
    ],
  },
  'shadow-differences': {
    given: DAY,
    columns: [
      'difference',
      'principal',
      'target',
      'active_rule',
      'reasons',
      'shadow_sequence',
      'differences',
    ],
    rows: [['would_deny', 'orders-app', 'sql01:1433', 'r1', 'address_mismatch,no_rule', 8, 5]],
  },
  'unused-grants': {
    given: { since: '2026-06-02' },
    columns: ['rule_id', 'action', 'owner', 'known_since'],
    rows: [
      ['deny-unused', 'deny', 'dba@example.com', '2026-06-01T00:00:00.000Z'],
      ['grant-unused', 'stream', 'dba@example.com', '2026-06-01T00:00:00.000Z'],
    ],
  },
  'expiring-rules': {
    columns: ['expires_at', 'expired', 'owner', 'rule_id'],
    rows: [['2026-07-01T00:00:00.000Z', true, 'dba@example.com', 'batch']],
  },
  'removed-rules': {
    given: DAY,
    columns: ['policy_rule', 'agent', 'streams', 'still_open', 'last_bundle_sequence', 'principals'],
    rows: [['old-rule', 'agent-1', 1, 0, 7, ['reporting']]],
  },
  'bundle-at': {
    given: { agent: 'agent-1', at: '2026-06-03T11:59:59Z' },
    columns: ['activated_at', 'bundle_sequence', 'bundle_revision', 'bundle_sha256', 'signed_by'],
    rows: [[instant('06:00:00'), 7, 'r7', OLD_BUNDLE, 'release-key']],
  },
  'bundle-changes': {
    given: { before: '7', after: NEW_BUNDLE, ...DAY },
    columns: [
      'change',
      'principal',
      'target_host',
      'was_by',
      'is_now_by',
      'decisions_before',
      'decisions_after',
    ],
    rows: [
      ['newly allowed', 'reporting', 'sql02.corp.example', ['no_stream_rule'], ['reporting'], 3, 1],
      ['newly denied', 'batch', 'sql01.corp.example', ['batch'], ['policy:night'], 1, 1],
    ],
  },
  reconciliation: {
    columns: ['outcome', 'link_id', 'relay_bytes_up', 'agent_bytes_up'],
    given: { from: DAY.from },
    rows: [
      ['mismatch', linkId(3), 100, 101],
      ['mismatch', linkId(9), 100, 90],
      ['other_side_missing', linkId(4), 5, null],
      ['cut_short', linkId(2), 100, 90],
      ['agent_behind', linkId(10), 100, 90],
      ['other_side_absent', linkId(5), 6, null],
      ['other_side_lost', linkId(7), 8, null],
      ['other_side_absent', linkId(8), null, 1],
      ['pending', linkId(6), 7, null],
    ],
  },
  gaps: {
    columns: ['origin', 'state', 'dropped', 'breaks', 'break_reasons', 'default_partition_rows'],
    rows: [
      ['relay/relay-1', 'live', 0, 1, ['no_previous_spool'], 0],
      ['agent/agent-1', 'live', 0, 1, ['no_previous_spool'], 0],
      ['agent/agent-2', 'ended', 0, 1, ['no_previous_spool'], 0],
    ],
  },
  retained: {
    columns: ['retained_at', 'partitions', 'signer', 'recorded_as_at', 'origin'],
    rows: [[instant('15:00:00'), ['event_20250101'], 's_operator', instant('15:00:00'), 'agent/agent-1']],
  },
  'target-changes': {
    given: DAY,
    columns: ['type', 'connection', 'agent', 'actor', 'before', 'after'],
    rows: [
      ['connection.changed', 'orders-db', null, 't_1', { port: 1 }, { port: 2 }],
      ['managed.changed', null, 'agent-1', null, { state: 'absent' }, { state: 'in_force' }],
    ],
  },
};

test('there are twenty questions and one for roll-outs, each with an answer here', () => {
  assert.equal(NAMED_QUERIES.length, 21);
  assert.deepEqual(NAMED_QUERIES.map(({ name }) => name).sort(), Object.keys(expected).sort());
});

const shown = (rows: readonly Row[], columns: readonly string[]): unknown[][] =>
  rows.map((row) => columns.map((name) => row[name]));

for (const query of NAMED_QUERIES) {
  test(`question ${query.name}: exactly the rows that are so, as role audit_read`, async () => {
    const { given = {}, columns, rows } = expected[query.name]!;
    const result = await runNamedQuery(reader, query, given, systemClock);
    for (const name of columns) assert.ok(result.columns.includes(name), `no column ${name}`);
    assert.deepEqual(shown(result.rows, columns), rows);
  });
}

test('what is open on a chain that was silent for three heartbeats is unknown', async () => {
  const certainty = async (): Promise<unknown> =>
    (await reader.query('select certainty from audit.active_streams')).rows[0]?.certainty;
  const silentFor = (seconds: number): Promise<void> =>
    tamper(store.owner, `update audit.chain set last_recorded_at = now() - interval '${seconds} seconds'`);
  await silentFor(170);
  assert.equal(await certainty(), 'open');
  await silentFor(181);
  assert.equal(await certainty(), 'unknown');
});

test('links that agree are in the view, and are no answer to what was seen differently', async () => {
  const { rows } = await reader.query("select link_id from audit.reconciliation where outcome = 'agrees'");
  assert.deepEqual(shown(rows, ['link_id']), [[linkId(1)]]);
});

test('an open stream that a re-check denied is told from one that never opened', async () => {
  const { rows } = await reader.query(
    'select stream_id, recheck from audit.denies where recheck or principal = $1 order by occurred_at',
    ['batch'],
  );
  assert.deepEqual(shown(rows, ['stream_id', 'recheck']), [
    [streamId(6), true],
    [streamId(8), false],
  ]);
  const usage = await reader.query(
    'select key_id, allowed::int, denied::int, cut::int from audit.key_usage order by key_id',
  );
  assert.deepEqual(shown(usage.rows, ['key_id', 'allowed', 'denied', 'cut']), [
    [KEY, 4, 0, 1],
    ['k_batch', 1, 1, 0],
    ['k_reporting', 2, 1, 0],
  ]);
  const said = await reader.query(
    "select summary from audit.timeline where stream_id = $1 and action = 'denied'",
    [streamId(6)],
  );
  assert.match(String(said.rows[0]?.summary), /^stream\.decision denied at a re-check connection orders-db /);
});

test('changes show who, what, before and after: of tokens and bundles too', async () => {
  const { rows } = await reader.query(
    "select change, subject, actor, before, after from audit.admin_changes where change ~ '^(token|bundle)' order by occurred_at",
  );
  const bundle = (sha256: string, sequence: number): object => ({
    revision: `r${sequence}`,
    sequence,
    sha256,
  });
  const [older, newer] = [bundle(OLD_BUNDLE, 7), bundle(NEW_BUNDLE, 8)];
  assert.deepEqual(shown(rows, ['change', 'subject', 'actor', 'before', 'after']), [
    ['bundle.activated', 'r7', null, null, older],
    ['token.revoked', 't_9', 't_1', { token_id: 't_9', revoked: false }, { token_id: 't_9', revoked: true }],
    ['bundle.activated', 'r8', null, older, newer],
  ]);
});

test('rules that never decided anything are unused, whenever they came', async () => {
  const { rows } = await reader.query('select rule_id from audit.unused_grants order by rule_id');
  assert.deepEqual(shown(rows, ['rule_id']), [['deny-unused'], ['grant-unused']]);
});
