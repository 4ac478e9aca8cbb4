import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ensureReaderRole } from '../../../src/audit/index.ts';
import { decisionData } from '../../../src/agent/events.ts';
import { buildBundle, decide, type PolicyHost, type PolicyInputBase } from '../../../src/policy/index.ts';
import { askOpa } from '../../../src/policy/tool/opa-verdicts.ts';
import { auditDatabase, openLog, streamId, TEST_PASSWORD, urlAs } from '../../audit/audit-fixture.ts';
import { sallyport } from '../../support/command.ts';
import { startPostgres } from '../../support/postgres.ts';
import {
  compileOrders,
  keyOf,
  openGuard,
  openHost,
  ORDERS,
  policyDirectory,
  rawBundle,
  scratch,
  streamInput,
  testOpa,
} from '../support.ts';

/** Streams of the last weeks: who, from where, at what hour, to which address. */
const traffic = (): PolicyInputBase[] => {
  const inputs: PolicyInputBase[] = [];
  for (const principal of ['orders-app', 'reporting', 'stranger'])
    for (const address of ['203.0.113.9', '203.0.113.200', '198.51.100.1'])
      for (const hour of [7, 12, 20])
        for (const target of [['10.1.2.3'], ['10.1.9.9', '10.2.0.1'], ['10.9.0.1'], ['169.254.169.254']]) {
          const number = inputs.length + 1;
          inputs.push(
            streamInput({
              key: keyOf(principal),
              source: { gateway: 'gw1', gateway_proved: false, address },
              target: { host: 'sql01.corp.example', port: 1433, addresses: target },
              stream: { id: streamId(number), kind: 'tcp', attempt: 1 },
              time: {
                unix_ms: Date.UTC(2027, 2, 30, hour),
                rfc3339: `2027-03-30T${String(hour).padStart(2, '0')}:00:00Z`,
                local: { date: '2027-03-30', weekday: 'tue', hour, minute: 0, zone: 'UTC' },
              },
            }),
          );
        }
  return inputs;
};

/** Decides the traffic with the orders policy and records each decision in Postgres. */
const recordTraffic = async (
  t: TestContext,
  host: PolicyHost,
  inputs: readonly PolicyInputBase[],
): Promise<string> => {
  const server = await startPostgres();
  t.after(() => server.stop());
  const { owner, writer } = await auditDatabase(server);
  await ensureReaderRole(owner, 'reader_1', TEST_PASSWORD);
  const log = await openLog(scratch(t), { database: { url: writer } });
  for (const input of inputs) {
    const decision = await decide(host, input, openGuard);
    await log.record({
      type: 'stream.decision',
      subject: {
        connection: input.connection.name,
        stream_id: input.stream?.id,
        principal: input.key?.principal,
      },
      data: decisionData(decision),
    });
  }
  await log.record({
    type: 'stream.decision',
    subject: { connection: 'orders-db' },
    data: { allow: false, decided_by: 'limit', reason: 'limit_denied', reasons: [], candidates: [] },
  });
  await log.flush(20_000);
  await log.close();
  return urlAs(owner, 'reader_1');
};

interface Report {
  readonly ok: boolean;
  readonly counts: Record<string, number> & { readonly not_compared: Record<string, number> };
  readonly groups: readonly {
    readonly change: string;
    readonly decisions: number;
    readonly detail: string | null;
  }[];
}

interface Changed {
  readonly change: string;
  readonly eventId: string;
}

/** The draft: the app may come from half of the network only, and reporting has no grant any more but all day. */
const draftDirectory = (t: TestContext): string => {
  const rego = readFileSync(join(ORDERS, 'sallyport/allow/orders.rego'), 'utf8');
  return policyDirectory(t, {
    'sallyport/allow/orders.rego': rego
      .replace('request.from_any({"203.0.113.0/24"})', 'request.from_any({"203.0.113.0/25"})')
      .replace('request.working_hours(8, 18)', 'request.working_hours(6, 18)'),
    'sallyport/grants/data.yaml': 'orders-db: {}\n',
    '.manifest': JSON.stringify({
      revision: 'draft',
      roots: ['sallyport'],
      metadata: { sallyport: { input: 1, sequence: 8 } },
    }),
  });
};

/** Which inputs OPA's own evaluator allows over the sources: any candidate that the guard lets through. */
const allowedByOpa = async (
  directory: string,
  inputs: readonly PolicyInputBase[],
): Promise<Set<PolicyInputBase>> => {
  const asked = inputs.flatMap((input) =>
    input.target.addresses
      .filter((address) => !address.startsWith('169.254.'))
      .map((address) => ({ input, single: { ...input, target: { ...input.target, address } } })),
  );
  const answers = await askOpa(
    await testOpa(),
    directory,
    asked.map(({ single }) => single),
  );
  assert.ok(answers.every(({ ok }) => ok));
  return new Set(
    asked.flatMap(({ input }, index) => {
      const answer = answers[index];
      return answer?.ok === true && answer.verdict.allow ? [input] : [];
    }),
  );
};

test('replay names exactly what a draft would newly deny and newly allow, as opa itself says', async (t) => {
  const opa = await testOpa();
  const host = await openHost(t, await compileOrders(t));
  const inputs = traffic();
  const database = await recordTraffic(t, host, inputs);
  const directory = draftDirectory(t);
  const draft = join(scratch(t), 'draft.tar.gz');
  const { bytes } = await buildBundle(directory, undefined, { opa, sequence: 8 });
  writeFileSync(draft, bytes);
  const changes = join(scratch(t), 'changes.jsonl');
  const run = await sallyport([
    '--json',
    'policy',
    'replay',
    '--database',
    database,
    '--bundle',
    draft,
    '--changes',
    changes,
  ]);
  const report = JSON.parse(run.stdout) as Report;
  assert.equal(run.code, 1, run.stderr);

  // Independently: what opa answers for each input, under the old bundle and under the draft.
  const expected = { newly_denied: 0, newly_allowed: 0 };
  const before = await allowedByOpa(policyDirectory(t, {}, ORDERS), inputs);
  const now = await allowedByOpa(directory, inputs);
  for (const input of inputs) {
    if (before.has(input) && !now.has(input)) expected.newly_denied += 1;
    if (!before.has(input) && now.has(input)) expected.newly_allowed += 1;
  }
  assert.ok(expected.newly_denied > 0 && expected.newly_allowed > 0, JSON.stringify(expected));
  assert.deepEqual(
    { newly_denied: report.counts['newly_denied'], newly_allowed: report.counts['newly_allowed'] },
    expected,
  );
  const guarded = inputs.filter(({ target }) => target.addresses[0] === '169.254.169.254').length;
  assert.deepEqual(report.counts.not_compared, { guard: guarded, limit: 1 });
  assert.equal(report.counts['decisions'], inputs.length + 1);
  const lines = readFileSync(changes, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Changed);
  assert.equal(lines.filter(({ change }) => change === 'newly_denied').length, expected.newly_denied);
  assert.equal(new Set(lines.map(({ eventId }) => eventId)).size, lines.length, 'each event once');
  const grouped = report.groups.reduce((sum, group) => sum + group.decisions, 0);
  assert.equal(grouped, lines.length);

  await t.test('the bundle that decided changes nothing', async () => {
    const same = join(scratch(t), 'same.tar.gz');
    writeFileSync(same, await compileOrders(t));
    const again = await sallyport([
      '--json',
      'policy',
      'replay',
      '--database',
      database,
      '--bundle',
      same,
      '--fail-on',
      'any',
    ]);
    const { ok, counts } = JSON.parse(again.stdout) as Report;
    assert.deepEqual([again.code, ok, counts['same']], [0, true, inputs.length - guarded]);
  });

  await t.test('a grants file takes the place of the grants that the draft has', async () => {
    assert.match(run.stderr, /--grants FILE puts it in their place/);
    const grants = join(ORDERS, 'sallyport/grants/data.yaml');
    const ask = ['--json', 'policy', 'replay', '--database', database, '--bundle', draft, '--grants', grants];
    const again = await sallyport(ask);
    const { counts } = JSON.parse(again.stdout) as Report;
    assert.doesNotMatch(again.stderr, /--grants FILE/);
    assert.ok((counts['newly_denied'] ?? Infinity) < expected.newly_denied, JSON.stringify(counts));
    const malformed = join(scratch(t), 'grants.yaml');
    writeFileSync(malformed, 'orders-db: {reporting: [{id: a}]}\n');
    const refused = await sallyport([...ask.slice(0, -1), malformed]);
    assert.match(refused.stderr, /ERR_POLICY_GRANTS/);
  });

  await t.test('a draft without a verdict is an error, never a note', async () => {
    const broken = join(scratch(t), 'broken.tar.gz');
    writeFileSync(broken, await rawBundle(t, 'stream := {"allow": "yes"}\n\npublish := {"allow": false}'));
    const again = await sallyport(['--json', 'policy', 'replay', '--database', database, '--bundle', broken]);
    const { counts, groups } = JSON.parse(again.stdout) as Report;
    assert.equal(again.code, 1);
    assert.equal(counts['error'], inputs.length - guarded);
    assert.ok(groups.every(({ change, detail }) => change === 'error' && /policy_error/.test(detail ?? '')));
  });

  await t.test('a time without decisions is said to have none', async () => {
    const none = await sallyport([
      'policy',
      'replay',
      '--database',
      database,
      '--bundle',
      draft,
      '--since',
      '2020-01-01',
      '--until',
      '2020-02-01T00:00:00Z',
    ]);
    assert.equal(none.code, 0, none.stderr);
    assert.match(none.stderr, /no decision was recorded in that time/);
  });

  await t.test('a time that is none is refused with what was meant', async () => {
    const wrong = await sallyport([
      'policy',
      'replay',
      '--database',
      database,
      '--bundle',
      draft,
      '--since',
      'yesterday',
    ]);
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /--since "yesterday" is neither like 30s/);
  });

  await t.test('unused lists what no decision needed, and only that', async () => {
    const same = join(scratch(t), 'same.tar.gz');
    writeFileSync(same, await compileOrders(t));
    const asked = ['policy', 'unused', '--database', database, '--bundle', same, '--all'];
    const run = await sallyport(['--json', ...asked]);
    const { rules, unused } = JSON.parse(run.stdout) as {
      rules: { id: string; decisions: number; last_at: string | null }[];
      unused: number;
    };
    assert.equal(run.code, 0, run.stderr);
    const used = Object.fromEntries(rules.map(({ id, decisions }) => [id, decisions]));
    const count = async (principal: string): Promise<number> => {
      const allowed = await allowedByOpa(
        policyDirectory(t, {}, ORDERS),
        inputs.filter(({ key }) => key?.principal === principal),
      );
      return allowed.size;
    };
    const [app, reporting] = [await count('orders-app'), await count('reporting')];
    assert.deepEqual(used, {
      'orders-publish': app + reporting,
      'orders-app': app,
      'no-ssh': 0,
      'orders-reporting': reporting,
    });
    assert.equal(unused, 1);
    const strict = await sallyport([...asked, '--fail-on', 'any']);
    assert.equal(strict.code, 1);
    assert.match(strict.stdout, /1 of 4 rules and grants not needed; \d+ decisions since/);

    // What an agent's grants file allowed is looked for in it, in place of the bundle's.
    const bare = await sallyport(['policy', 'unused', '--database', database, '--bundle', draft]);
    assert.match(bare.stdout, /decisions name rules that this policy does not have: .*orders-reporting/);
    assert.match(bare.stderr, /unless --grants FILE gives it/);
    const grants = join(ORDERS, 'sallyport/grants/data.yaml');
    const withFile = await sallyport([
      ...['--json', 'policy', 'unused', '--database', database, '--bundle', draft, '--all'],
      ...['--grants', grants],
    ]);
    const found = JSON.parse(withFile.stdout) as { rules: typeof rules; elsewhere: { id: string }[] };
    assert.equal(found.rules.find(({ id }) => id === 'orders-reporting')?.decisions, reporting);
    assert.ok(!found.elsewhere.some(({ id }) => id === 'orders-reporting'));
  });

  await t.test(
    'propose writes an allow-list that allows what was allowed, and its neighbours not',
    async () => {
      const proposal = join(scratch(t), 'proposal');
      const run = await sallyport(
        ['--json', 'policy', 'propose', '--database', database, '-o', proposal, '--owner', 'sec@example.com'],
        { deadlineMs: 120_000 },
      );
      const report = JSON.parse(run.stdout) as {
        ok: boolean;
        findings: unknown[];
        replay: Record<string, number>;
      };
      assert.equal(run.code, 0, run.stdout + run.stderr);
      assert.deepEqual(
        [report.ok, report.findings, report.replay['newly_denied'], report.replay['error']],
        [true, [], 0, 0],
      );
      const rego = readFileSync(join(proposal, 'sallyport/allow/orders_db.rego'), 'utf8');
      assert.match(rego, /input\.key\.principal == "orders-app"/);
      assert.match(rego, /request\.from_any\(\{"203\.0\.113\.200\/32", "203\.0\.113\.9\/32"\}\)/);
      assert.ok(
        !rego.includes('stranger') && !rego.includes('198.51.100.1'),
        'what was denied is not proposed',
      );
      const tested = await sallyport(['policy', 'test', proposal], { deadlineMs: 120_000 });
      assert.equal(tested.code, 0, tested.stdout + tested.stderr);
      const again = await sallyport([
        'policy',
        'propose',
        '--database',
        database,
        '-o',
        proposal,
        '--owner',
        'x',
      ]);
      assert.equal(again.code, 2);
      assert.match(again.stderr, /nothing is overwritten/);
    },
  );
});
