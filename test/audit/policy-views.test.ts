import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import type { AuditEventInput, AuditLog, EventData } from '../../src/audit/index.ts';
import { sallyport } from '../support/command.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import {
  type AnyRow,
  auditDatabase,
  decision,
  onDatabase,
  openLog,
  rowsOf,
  tamper,
} from './audit-fixture.ts';

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

const bundle = (sequence: number, grants?: string): NonNullable<EventData['bundle.activated']['bundle']> => ({
  sha256: sequence.toString(16).padStart(64, '0'),
  revision: `r${String(sequence)}`,
  sequence,
  ...(grants === undefined ? {} : { grants_sha256: grants.repeat(64) }),
});

const activated = (
  sequence: number,
  options: { grants?: string; signedBy?: string } = {},
): AuditEventInput => ({
  type: 'bundle.activated',
  subject: {},
  data: {
    bundle: bundle(sequence, options.grants),
    ...(options.signedBy === undefined ? {} : { signed_by: options.signedBy }),
    source: '/etc/sallyport/bundle.tar.gz',
    generation: 1,
  },
});
const held = (sequence: number): AuditEventInput => ({
  type: 'bundle.held',
  subject: {},
  data: {
    bundle: bundle(sequence),
    reason: 'max_close',
    would_close: 31,
    detail: '31 of 40 live streams; confirm x',
  },
});
const rejected = (why: string): AuditEventInput => ({
  type: 'bundle.rejected',
  subject: {},
  data: { reason: 'ERR_POLICY_SIGNATURE', detail: why },
});
const engineDenial = (number: number, code: string, count: number): AuditEventInput => {
  const { data, ...rest } = decision(number, false);
  return {
    ...rest,
    type: 'stream.decision',
    data: {
      ...(data as EventData['stream.decision']),
      decided_by: 'engine',
      reasons: [{ code }],
      eval_us: 0,
      count,
    },
  };
};

interface World {
  readonly owner: string;
  /** Opens the log of one agent, again if it was open before. */
  readonly open: (name: string) => Promise<AuditLog>;
}

const world = async (t: TestContext): Promise<World> => {
  const { owner, writer } = await auditDatabase(server);
  const directory = temporaryDirectory(t);
  return {
    owner,
    open: async (name) => {
      const origin = {
        kind: 'agent' as const,
        name,
        instance: `${name}-1`,
        namespace: 'relay.example.com',
        version: '0.1.0',
        zone: 'Europe/Berlin',
      };
      const log = await openLog(join(directory, name), { database: { url: writer }, origin });
      t.after(() => log.close());
      return log;
    },
  };
};

const note = async (log: AuditLog, ...events: AuditEventInput[]): Promise<void> => {
  for (const event of events) await log.record(event);
  assert.ok(await log.flush(20_000));
};

const health = async (owner: string, agent: string): Promise<AnyRow> => {
  const [row] = await rowsOf(owner, 'select * from audit.policy_health where agent = $1', [agent]);
  return row ?? assert.fail(`no row of ${agent}`);
};

test('policy_rollout has a row per uninterrupted time of a bundle and its grants, over restarts', async (t) => {
  const { owner, open } = await world(t);
  const first = await open('a1');
  await note(first, activated(6, { signedBy: 'policy-1' }), activated(7, { signedBy: 'policy-2' }));
  await first.close();
  // A restart with the same bundle goes on; other grants under it do not.
  const second = await open('a1');
  await note(
    second,
    activated(7, { signedBy: 'policy-2' }),
    activated(7, { grants: 'a' }),
    activated(7, { grants: 'b' }),
  );
  await note(second, activated(6));
  const rows = await rowsOf(
    owner,
    `select bundle_sequence::int as seq, left(grants_sha256, 1) as grants, signed_by, is_current, previous_sequence::int as before,
       left(previous_grants_sha256, 1) as before_grants, active_until = lead(active_since) over (order by active_since) as meets,
       last_activated_at > active_since as restarted, bundle_revision, source, is_stored
     from audit.policy_rollout order by active_since`,
  );
  assert.deepEqual(
    rows.map((row): unknown[] => [
      row['seq'],
      row['grants'],
      row['signed_by'],
      row['before'],
      row['before_grants'],
    ]),
    [
      [6, null, 'policy-1', null, null],
      [7, null, 'policy-2', 6, null],
      [7, 'a', null, 7, null],
      [7, 'b', null, 7, 'a'],
      [6, null, null, 7, 'b'],
    ],
  );
  assert.deepEqual(
    rows.map((row): unknown[] => [row['is_current'], row['meets'], row['restarted']]),
    [
      [false, true, false],
      [false, true, true],
      [false, true, false],
      [false, true, false],
      [true, null, false],
    ],
  );
  assert.deepEqual(
    [rows[4]?.['bundle_revision'], rows[4]?.['source'], rows[4]?.['is_stored']],
    ['r6', '/etc/sallyport/bundle.tar.gz', false],
  );
});

test('policy_health has what is held and refused since the active one, and how the engine did', async (t) => {
  const { owner, open } = await world(t);
  const log = await open('a1');
  await note(log, rejected('before there was one'));
  assert.deepEqual(
    [(await health(owner, 'a1'))['bundle_sha256'], (await health(owner, 'a1'))['rejected_reason']],
    [null, 'before there was one'],
  );
  await note(log, activated(7), held(8), rejected('first'), rejected('second'));
  await note(
    log,
    engineDenial(1, 'policy_timeout', 5),
    engineDenial(2, 'policy_error', 1),
    engineDenial(3, 'policy_overload', 2),
    engineDenial(4, 'no_bundle', 3),
    decision(5),
    decision(6, false),
    {
      type: 'policy.error',
      subject: {},
      data: { code: 'repeated_failures', detail: 'orders-db orders-app', count: 3 },
    },
  );
  const row = await health(owner, 'a1');
  assert.deepEqual(
    [
      row['state'],
      row['bundle_sequence'],
      row['held_sequence'],
      row['held_would_close'],
      row['rejected_reason'],
      row['rejected_code'],
    ],
    ['running', '7', '8', '31', 'second', 'ERR_POLICY_SIGNATURE'],
  );
  assert.deepEqual(
    [
      'holds',
      'rejections',
      'alarms',
      'decisions',
      'policy_timeouts',
      'policy_errors',
      'policy_overloads',
      'without_bundle',
    ].map((name) => Number(row[name])),
    [1, 3, 1, 6, 5, 1, 2, 3],
  );
  assert.deepEqual(
    [row['last_alarm_of'], row['eval_us_p50'], row['eval_us_max']],
    ['orders-db orders-app', 44.5, 44.5],
  );

  // The next activation settles both.
  await note(log, activated(8));
  const settled = await health(owner, 'a1');
  assert.deepEqual(
    [settled['held_at'], settled['rejected_at'], settled['bundle_sequence']],
    [null, null, '8'],
  );
});

test('policy status exits 1 when running agents differ, hold, refuse or have nothing; ended and gone ones do not count', async (t) => {
  const { owner, open } = await world(t);
  const status = async (
    ...args: string[]
  ): Promise<{ code: number | null; problems: string[]; states: unknown[] }> => {
    const ran = await sallyport(['--json', 'policy', 'status', '--database', owner, ...args]);
    assert.ok(ran.stdout !== '', ran.stderr);
    const said = JSON.parse(ran.stdout) as { problems: string[]; agents: AnyRow[] };
    return {
      code: ran.code,
      problems: said.problems,
      states: said.agents.map((row): unknown => row['state']),
    };
  };
  const [a1, a2] = [await open('a1'), await open('a2')];
  await note(a1, activated(7));
  await note(a2, activated(7));
  assert.deepEqual(await status(), { code: 0, problems: [], states: ['running', 'running'] });

  await note(a2, activated(8));
  const differ = await status();
  assert.equal(differ.code, 1);
  assert.match(differ.problems.join('\n'), /^agents run 2 different policies: 000000000000, 000000000000$/);
  assert.equal((await status('--agent', 'a2')).code, 0);
  const people = await sallyport(['policy', 'status', '--database', owner]);
  assert.match(people.stdout, /a2 +running +8 +r8 .*7 000000000000/);

  await note(a1, activated(8, { grants: 'c' }));
  assert.match((await status()).problems.join('\n'), /000000000000\+cccccccccccc/);
  await note(a1, activated(8), held(9));
  assert.match(
    (await status()).problems.join('\n'),
    /^a1 holds sequence 9, 'r9', since .*: it would close 31 of 40 live streams/,
  );
  await note(a1, activated(8), rejected('no key signed it'));
  assert.match(
    (await status()).problems.join('\n'),
    /^a1 refused a bundle at .*: no key signed it \(ERR_POLICY_SIGNATURE\)$/,
  );
  await note(a1, activated(8));
  assert.equal((await status()).code, 0);

  const a3 = await open('a3');
  await note(a3);
  assert.deepEqual((await status()).problems, ['a3 has no bundle: it denies every stream']);
  await a3.close();
  await note(a1, activated(9));
  await tamper(
    owner,
    "update audit.chain set last_recorded_at = now() - interval '10 minutes' where origin_name = 'a2'",
  );
  assert.deepEqual((await status()).states, ['running', 'silent', 'stopped']);
  assert.equal((await status()).code, 1, 'a silent agent may still decide');
  await tamper(
    owner,
    "update audit.chain set last_recorded_at = now() - interval '8 days' where origin_name = 'a2'",
  );
  assert.deepEqual(await status(), { code: 0, problems: [], states: ['running', 'gone', 'stopped'] });
  const unknown = await sallyport(['policy', 'status', '--database', owner, '--agent', 'a9']);
  assert.equal(unknown.code, 2);
});

test('policy status tells of an agent that has withdrawn its bundle, until it activates one again', async (t) => {
  const { owner, open } = await world(t);
  const log = await open('a1');
  await note(log, activated(7, { signedBy: 'policy-1' }));
  const data = { code: 'bundle_untrusted', detail: 'key policy-1 is no longer listed', count: 1 };
  await note(log, { type: 'policy.error', subject: {}, data });
  const withdrawn = await sallyport(['policy', 'status', '--database', owner]);
  assert.equal(withdrawn.code, 1);
  assert.match(withdrawn.stdout, /^a1 +withdrawn /m);
  assert.match(
    withdrawn.stdout,
    /a1 has withdrawn its bundle at .*: key policy-1 is no longer listed; it denies every stream/,
  );
  await note(log, activated(7, { signedBy: 'policy-2' }));
  const again = await sallyport(['policy', 'status', '--database', owner]);
  assert.equal(again.code, 0, again.stdout);
  assert.match(again.stdout, /^a1 +running /m);
});

test('what runs where is answered from the index of policy events, not from every event', async (t) => {
  const { owner } = await world(t);
  const plan = await onDatabase(owner, async (client) => {
    // Tables this small are read whole by preference: the planner is asked for another way.
    await client.query('set enable_seqscan to off');
    const { rows } = await client.query<Record<string, string>>('explain select * from audit.policy_rollout');
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  });
  assert.match(plan, /event_\d{8}_type_occurred_at_idx/);
  assert.doesNotMatch(plan, /Seq Scan on event/);
});
