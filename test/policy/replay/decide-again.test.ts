import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { decisionData } from '../../../src/agent/events.ts';
import {
  type AuditLog,
  ensureReaderRole,
  ensureVerifierRole,
  type PolicyArtifact,
  PolicyStore,
} from '../../../src/audit/index.ts';
import { keepCopies } from '../../../src/agent/policy-copies.ts';
import {
  decide,
  type Decision,
  type GuardSettings,
  type PolicyHost,
  type PolicyInputBase,
} from '../../../src/policy/index.ts';
import { silentLogger, systemClock, uuidv7 } from '../../../src/runtime/index.ts';
import { auditDatabase, openLog, tamper, TEST_PASSWORD, urlAs } from '../../audit/audit-fixture.ts';
import { eventually } from '../../support/eventually.ts';
import { startPostgres, type TestPostgres } from '../../support/postgres.ts';
import { compileOrders, keyOf, openGuard, openHost, sallyport, scratch, streamInput } from '../support.ts';

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

interface World {
  readonly owner: string;
  readonly reader: string;
  readonly verifier: string;
  readonly host: PolicyHost;
  readonly dataFile: string;
  readonly log: AuditLog;
  readonly store: PolicyStore;
  /** Decides, records it as an agent does, and tells the stream id. */
  readonly record: (
    base: PolicyInputBase,
    change?: (decision: Decision) => Decision,
    guard?: GuardSettings,
  ) => Promise<string>;
}

const GRANTS = {
  'orders-db': {
    reporting: [
      {
        id: 'file-reporting',
        owner: 'bi@example.com',
        expires: '2027-12-31',
        target: { host: 'sql01.corp.example', port: 1433 },
        limits: { max_seconds: 60 },
      },
    ],
  },
};

const open = async (t: TestContext, grants: unknown): Promise<World> => {
  const { owner, writer } = await auditDatabase(server);
  await ensureReaderRole(owner, 'reader_1', TEST_PASSWORD);
  await ensureVerifierRole(owner, 'verifier_1', TEST_PASSWORD);
  const directory = scratch(t);
  const dataFile = join(directory, 'grants.yaml');
  writeFileSync(dataFile, JSON.stringify(grants, null, 2));
  const host = await openHost(t, await compileOrders(t, { 'vectors/orders.yaml': '[]' }), { dataFile });
  const store = new PolicyStore({
    directory: join(directory, 'shelf'),
    databaseUrl: writer,
    clock: systemClock,
    logger: silentLogger,
  });
  t.after(() => store.close());
  keepCopies(host, store);
  const log = await openLog(directory, { database: { url: writer } });
  t.after(() => log.close());
  return {
    owner,
    reader: urlAs(owner, 'reader_1'),
    verifier: urlAs(owner, 'verifier_1'),
    host,
    dataFile,
    log,
    store,
    record: async (base, change = (made) => made, guard = openGuard) => {
      const id = uuidv7(systemClock);
      const data = decisionData(change(await decide(host, base, guard)));
      const subject = { stream_id: id, connection: base.connection.name, principal: base.key?.principal };
      await log.record({ type: 'stream.decision', subject: subject, data });
      return id;
    },
  };
};

const settled = async ({ log, store }: World): Promise<void> => {
  assert.ok(await log.flush(20_000));
  await eventually('everything is stored', () => (store.status().waiting === 0 ? true : undefined));
};

interface Said {
  readonly code: number | null;
  readonly outcome: string;
  readonly detail: string;
  readonly differences: readonly {
    readonly name: string;
    readonly recorded: unknown;
    readonly now: unknown;
  }[];
  readonly stderr: string;
}

const explain = (id: string, url: string, ...args: string[]): Said => {
  const ran = sallyport(['--json', 'audit', 'explain', id, '--database', url, ...args]);
  const one =
    ran.stdout === ''
      ? {}
      : (JSON.parse(ran.stdout) as { decisions: Omit<Said, 'code' | 'stderr'>[] }).decisions[0];
  return { outcome: '', detail: '', differences: [], ...one, code: ran.status, stderr: ran.stderr };
};

test('decisions by grants from a file are made again with those grants, whatever the file says later', async (t) => {
  const world = await open(t, GRANTS);
  const { owner, verifier, reader, record, host, dataFile } = world;
  const reporting = streamInput({ key: keyOf('reporting') });
  const two = { ...reporting.target, addresses: ['10.9.9.9', '10.1.2.3', '127.0.0.1'] };
  const allowed = await record({ ...reporting, target: two });
  writeFileSync(dataFile, '{}');
  await host.reload();
  const denied = await record(reporting);
  await settled(world);
  for (const id of [allowed, denied]) {
    const { code, outcome, detail, differences } = explain(id, verifier);
    assert.deepEqual([code, outcome, differences], [0, 'agrees', []], detail);
  }
  const people = sallyport(['audit', 'explain', allowed, '--database', verifier]);
  assert.match(people.stdout, /rule file-reporting/);
  assert.match(people.stdout, /127\.0\.0\.1: guard, guard_denied/);
  assert.match(people.stdout, /10\.1\.2\.3: allowed/);
  assert.match(people.stdout, /AGREES/);

  const why = sallyport(['policy', 'explain', '--stream', allowed, '--database', verifier]);
  assert.equal(why.status, 0, why.stderr);
  assert.match(why.stdout, /grant +file-reporting: .*target holds/);
  const whyNot = sallyport(['policy', 'explain', '--stream', denied, '--database', verifier]);
  assert.equal(whyNot.status, 1, whyNot.stderr);
  assert.match(whyNot.stdout, /10\.1\.2\.3: deny, no_rule/);
  assert.doesNotMatch(whyNot.stdout, /file-reporting/);

  // The catalog's readers may not see what is in a bundle; they may bring it.
  const forbidden = explain(allowed, reader);
  assert.equal(forbidden.code, 2);
  assert.match(forbidden.stderr, /may not read what is in a bundle: use one of role audit_verify/);
  const file = join(scratch(t), 'bundle.tar.gz');
  writeFileSync(file, host.active?.bytes ?? '');
  writeFileSync(dataFile, `${JSON.stringify(GRANTS)}\n`);
  assert.equal(explain(allowed, reader, '--bundle', file, '--grants', dataFile).outcome, 'agrees');
  const other = explain(denied, reader, '--bundle', file, '--grants', dataFile);
  assert.deepEqual([other.code, other.outcome], [1, 'not_decided_again']);
  assert.match(other.detail, /is not the grants file that decided/);

  await tamper(owner, "update audit.bundle_grants set content = '{}'::bytea where content <> '{}'::bytea");
  const altered = explain(allowed, verifier);
  assert.deepEqual([altered.code, altered.outcome], [1, 'not_decided_again']);
  assert.match(altered.detail, /grants file [0-9a-f]{64} was altered/);
  const gone = sallyport(['policy', 'explain', '--stream', allowed, '--database', verifier]);
  assert.equal(gone.status, 1);
  assert.match(gone.stderr, /was altered.*ERR_CLI_POLICY_GONE/);
});

test('a recorded verdict that the bundle does not give is named; a denial by others than policy says so', async (t) => {
  const world = await open(t, GRANTS);
  const { verifier, record } = world;
  const ids = {
    allow: await record(streamInput(), (made) => ({
      ...made,
      rule: 'somebody-else',
      obligations: { recheck_seconds: 5 },
    })),
    denied: await record(streamInput({ key: keyOf('nobody') }), (made) => ({
      ...made,
      allow: true,
      rule: 'orders-app',
      reasons: [{ code: 'allowed_by', args: { rule: 'orders-app' } }],
    })),
    guard: await record(
      streamInput({ target: { host: 'sql01.corp.example', port: 1433, addresses: ['169.254.169.254'] } }),
    ),
    engine: await record(streamInput(), (made) => ({
      ...made,
      allow: false,
      decided_by: 'engine',
      reason: 'policy_timeout',
      reasons: [{ code: 'policy_timeout', args: { detail: 'over 100 ms' } }],
    })),
    cut: await record(streamInput(), (made) => ({ ...made, input: made.input.slice(0, 40) })),
    // Dialled what the input does not have, or left out what it has.
    elsewhere: await record(streamInput(), (made) => ({
      ...made,
      candidates: made.candidates.map((one) => ({ ...one, address: '10.66.66.66' })),
    })),
    fewer: await record(
      streamInput({
        target: { host: 'sql01.corp.example', port: 1433, addresses: ['10.9.9.9', '10.1.2.3'] },
      }),
      (made) => ({ ...made, candidates: made.candidates.slice(1) }),
    ),
    allowedByEngine: await record(streamInput(), (made) => ({ ...made, decided_by: 'engine' })),
    stranger: await record(streamInput({ key: keyOf('nobody') }), (made) => ({
      ...made,
      decided_by: 'administrator' as Decision['decided_by'],
    })),
  };
  await settled(world);
  const allow = explain(ids.allow, verifier);
  assert.deepEqual(
    [allow.code, allow.outcome, allow.differences.map(({ name }) => name)],
    [1, 'differs', ['rule', 'obligations']],
  );
  assert.deepEqual(allow.differences[0], { name: 'rule', recorded: 'somebody-else', now: 'orders-app' });
  const denied = explain(ids.denied, verifier);
  assert.deepEqual([denied.code, denied.differences[0]], [1, { name: 'allow', recorded: true, now: false }]);
  const guard = explain(ids.guard, verifier);
  assert.deepEqual([guard.code, guard.outcome], [0, 'not_by_policy']);
  assert.match(guard.detail, /the guard in the agent's code denied it.*guard_denied/);
  const engine = explain(ids.engine, verifier);
  assert.deepEqual([engine.code, engine.outcome], [0, 'not_by_policy']);
  assert.match(engine.detail, /engine gave no verdict.*over 100 ms/);
  const cut = explain(ids.cut, verifier);
  assert.deepEqual([cut.code, cut.outcome], [1, 'not_decided_again']);
  const elsewhere = explain(ids.elsewhere, verifier);
  assert.deepEqual(
    [elsewhere.code, elsewhere.outcome, elsewhere.differences],
    [1, 'differs', [{ name: 'addresses', recorded: ['10.66.66.66'], now: ['10.1.2.3'] }]],
  );
  const fewer = explain(ids.fewer, verifier);
  assert.deepEqual([fewer.code, fewer.differences[0]?.name], [1, 'addresses']);
  const allowedByEngine = explain(ids.allowedByEngine, verifier);
  assert.deepEqual([allowedByEngine.code, allowedByEngine.outcome], [1, 'differs']);
  assert.match(allowedByEngine.detail, /engine allowed it, and only policy allows/);
  const stranger = explain(ids.stranger, verifier);
  assert.deepEqual([stranger.code, stranger.outcome], [1, 'not_decided_again']);
  assert.match(stranger.detail, /"administrator" decided it, and nothing of that name decides/);
  const unknown = sallyport([
    'audit',
    'explain',
    '019ab000-0000-7000-8000-000000000002',
    '--database',
    verifier,
  ]);
  assert.equal(unknown.status, 1);
  assert.match(unknown.stderr, /ERR_AUDIT_STREAM_UNKNOWN/);
});

test('what decides is handed over with its catalog, grants apart', async (t) => {
  const dataFile = join(scratch(t), 'grants.yaml');
  writeFileSync(dataFile, '{}');
  const host = await openHost(t, await compileOrders(t, { 'vectors/orders.yaml': '[]' }), { dataFile });
  const kept: PolicyArtifact[] = [];
  keepCopies(host, {
    keep: (artifacts) => {
      kept.push(...artifacts);
      return Promise.resolve();
    },
  });
  writeFileSync(dataFile, JSON.stringify(GRANTS));
  await host.reload();
  assert.deepEqual(
    kept.map(({ kind, sha256, content }) => [kind, sha256, content.length > 0]),
    [
      ['bundle', host.active?.sha256, true],
      ['grants', kept[1]?.sha256, true],
      ['bundle', host.active?.sha256, true],
      ['grants', host.active?.grants?.sha256, true],
    ],
  );
  assert.notEqual(kept[1]?.sha256, kept[3]?.sha256);
  const first = kept[0];
  assert.ok(first?.kind === 'bundle' && first.catalog.some(({ id }) => id === 'orders-app'));
});
