import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type GivenValues, NAMED_QUERIES, standaloneSql } from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { fillSizedStore, type SizedStore } from '../support/sized-audit-store.ts';
import { auditDatabase, onDatabase, rowsOf } from './audit-fixture.ts';

const DAYS = 6;
const LAST_DAY = '2026-06-06';
/** Neither the first nor the last. */
const DAY = { from: '2026-06-03', to: '2026-06-04' };
const DAY_PARTITION = 'event_20260603';
const STREAMS = 12_000;

let server: TestPostgres;
let owner: string;
let store: SizedStore;

before(async () => {
  server = await startPostgres();
  ({ owner } = await auditDatabase(server));
  store = await fillSizedStore(owner, { streams: STREAMS, days: DAYS, lastDay: LAST_DAY });
});
after(() => server.stop());

interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Actual Loops': number;
  readonly Plans?: readonly PlanNode[];
}

interface Touched {
  /** Columns of the indexes by which each partition of audit.event was read; `*`: from end to end; `empty`: so, without rows. */
  readonly [partition: string]: readonly string[];
}

const nodesOf = (node: PlanNode): readonly PlanNode[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)];

const EVENT_PARTITION = /^event_(\d{8}|default)/;

const dayOf = (partition: string): string => partition.replace(/^event_(\d{4})(\d{2})(\d{2})$/, '$1-$2-$3');

/** What a statement really read. */
const touchedBy = async (sql: string): Promise<Touched> => {
  const [row] = await rowsOf(owner, `explain (analyze, timing off, format json) ${sql}`);
  const [{ Plan: plan }] = row?.['QUERY PLAN'] as [{ Plan: PlanNode }];
  const touched: Record<string, string[]> = {};
  for (const node of nodesOf(plan)) {
    // The index of a partition is named after both; a bitmap scan reads it in a node of its own.
    const name = node['Index Name'] ?? node['Relation Name'] ?? '';
    const partition = EVENT_PARTITION.exec(name)?.[0];
    if (partition === undefined || node['Actual Loops'] === 0 || node['Node Type'] === 'Bitmap Heap Scan')
      continue;
    const whole = store.days.includes(dayOf(partition)) ? '*' : 'empty';
    const by =
      node['Node Type'] === 'Seq Scan' ? whole : name.slice(partition.length + 1).replace(/_idx\d*$/, '');
    touched[partition] = [...new Set([...(touched[partition] ?? []), by])].sort();
  }
  return touched;
};

const GIVEN: GivenValues = {
  target: 'server-7.corp.example',
  key: `k_${'7'.padStart(20, '0')}`,
  agent: 'agent-1',
  before: '2',
  after: '3',
};

const given = (name: string, time: GivenValues): GivenValues => {
  const known = NAMED_QUERIES.find((query) => query.name === name)!.parameters.map(
    (parameter) => parameter.name,
  );
  return Object.fromEntries(Object.entries({ ...GIVEN, ...time }).filter(([key]) => known.includes(key)));
};

const ask = (name: string, time: GivenValues = DAY): Promise<Touched> =>
  touchedBy(
    standaloneSql(NAMED_QUERIES.find((query) => query.name === name)!, given(name, time), systemClock),
  );

/** Questions whose answer about a day lies in the partition of that day. */
const WITHIN_A_DAY = [
  'target-access',
  'out-of-hours',
  'top-talkers',
  'key-history',
  'slot-usage',
  'auth-failures',
  'denials',
  'shadow-differences',
  'bundle-changes',
  'target-changes',
];

for (const name of WITHIN_A_DAY) {
  test(`${name} of one day reads the partition of that day alone`, async () => {
    assert.deepEqual(Object.keys(await ask(name)), [DAY_PARTITION]);
  });
}

/** Questions that need a fact from elsewhere, with the one index by which they may read it there. */
const FROM_ELSEWHERE: Readonly<Record<string, string>> = {
  // Whether the change was recorded before under the same id.
  'key-changes': 'event_id',
  // Which bundle each agent activated last.
  'removed-rules': 'type_occurred_at',
  // The other side of a link.
  reconciliation: 'link_id',
};

for (const [name, index] of Object.entries(FROM_ELSEWHERE)) {
  test(`${name} of one day reads other partitions by index ${index} only`, async () => {
    const { [DAY_PARTITION]: own, ...others } = await ask(name);
    assert.ok(own !== undefined);
    for (const [partition, by] of Object.entries(others)) {
      if (!by.includes('empty')) assert.deepEqual([partition, by], [partition, [index]]);
    }
  });
}

/** Of all time: by these indexes, and no partition with rows from end to end. */
const BY_INDEX: Readonly<Record<string, string>> = {
  'target-access': 'target_host_occurred_at',
  'key-history': 'key_id_occurred_at',
  'first-pairs': 'principal_target_host_target_port',
  'key-changes': 'type_occurred_at',
  'target-changes': 'type_occurred_at',
  'revocation-cuts': 'type_occurred_at',
  'expiring-rules': 'type_occurred_at',
  'bundle-at': 'type_occurred_at',
  gaps: 'type_occurred_at',
};

for (const [name, index] of Object.entries(BY_INDEX)) {
  test(`${name} of all time reads by index ${index}`, async () => {
    const touched = await ask(name, { from: '-infinity', to: 'infinity' });
    for (const day of ['20260601', '20260603', '20260606']) {
      const by = touched[`event_${day}`] ?? [];
      assert.ok(by.some((name) => name.startsWith(index)) && !by.includes('*'), `${day}: ${by.join(', ')}`);
    }
  });
}

test('an end is looked for from the partition of the stream on, and no further than where it is', async () => {
  const touched = await ask('out-of-hours', { from: '2026-06-03', to: '2026-06-05' });
  assert.deepEqual(Object.keys(touched), [DAY_PARTITION, 'event_20260604']);
  assert.ok(touched[DAY_PARTITION]?.includes('stream_id'));
});

for (const view of ['decisions', 'denies', 'streams', 'timeline', 'admin_changes', 'reconciliation']) {
  test(`audit.${view}: a bound on recorded_at in somebody's own SQL leaves other partitions to index lookups`, async () => {
    const { [DAY_PARTITION]: own, ...others } = await touchedBy(
      `select * from audit.${view} where recorded_at >= '2026-06-03T00:00Z' and recorded_at < '2026-06-04T00:00Z'`,
    );
    assert.ok(own !== undefined);
    for (const [partition, by] of Object.entries(others)) {
      assert.ok(
        by.length === 1 && ['event_id', 'link_id', 'empty'].includes(by[0]!),
        `${partition}: ${by.join(', ')}`,
      );
    }
  });
}

/** Partitions that a statement scanned, also inside functions, by the statistics of its transaction. */
const scannedBy = (sql: string): Promise<readonly string[]> =>
  onDatabase(owner, async (client) => {
    await client.query('begin');
    await client.query(sql);
    const { rows } = await client.query<{ relname: string }>(
      `select relname from pg_stat_xact_user_tables
       where schemaname = 'audit' and relname ~ '^event_[0-9d]' and coalesce(seq_scan, 0) + coalesce(idx_scan, 0) > 0
       order by relname`,
    );
    await client.query('rollback');
    return rows.map(({ relname }) => relname);
  });

test('audit.decisions_between reads the partitions of its time alone', async () => {
  const bounds = `'${DAY.from}T00:00Z', '${DAY.to}T00:00Z'`;
  assert.deepEqual(await scannedBy(`select count(*) from audit.decisions_between(${bounds})`), [
    DAY_PARTITION,
  ]);
  // The statistic sees what it should: without the function all of them are read.
  assert.ok((await scannedBy('select count(*) from audit.decisions')).length > DAYS);
});
