import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findProgram, missingPrograms, runCommand, sallyport } from '../support/command.ts';
import { eventually } from '../support/eventually.ts';
import { dial, readToEnd } from '../support/sockets.ts';
import { startUp } from '../support/up.ts';

/** Waits inside the session until its own stream shows, then tells which one it is. */
const OWN_STREAM = `
do $$ begin
  for attempt in 1..400 loop
    exit when exists (select from audit.active_streams where connection = 'audit-db');
    perform pg_sleep(0.025);
  end loop;
end $$;
select stream_id from audit.active_streams where connection = 'audit-db';
select action, policy_rule, principal, target_port from audit.decisions
  where stream_id = (select stream_id from audit.active_streams where connection = 'audit-db');
`;

test('`up` with nothing but itself', async (t) => {
  const up = await startUp(t);

  await t.test(
    'psql reads the row of its own stream through the tunnel that records it',
    { skip: missingPrograms({ psql: 'postgresql-client' }) },
    async () => {
      const url = up.ready().audit_read_url ?? '';
      const psql = await runCommand(
        findProgram('psql') ?? '',
        [url, '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1'],
        {
          input: OWN_STREAM,
        },
      );
      assert.equal(psql.code, 0, psql.stderr);
      const [streamId = '', decision = ''] = psql.stdout.trim().split('\n');
      assert.match(streamId, /^[0-9a-f-]{36}$/);
      assert.match(decision, /^allowed\|development-stream\|defaultSender\|\d+$/);

      const closed = await eventually('the end of the stream is recorded', async () => {
        const rows = await up.rows<{ close_reason: string; bytes_up: string; bytes_down: string }>(
          "select close_reason, bytes_up, bytes_down from audit.event where stream_id = $1 and type = 'stream.close'",
          [streamId],
        );
        return rows[0];
      });
      // After psql's Terminate both sides close; whose FIN is delivered first is the kernel's choice.
      assert.match(closed.close_reason, /^(client|target)_fin$/);
      assert.ok(Number(closed.bytes_up) > 0 && Number(closed.bytes_down) > 0, JSON.stringify(closed));
    },
  );

  await t.test('the denied connection is refused by a reset, and `why` tells the reason', async () => {
    const end = await readToEnd(dial(t, up.listenOf('forbidden')));
    assert.equal(end.how, 'ECONNRESET');
    assert.equal(end.bytes.length, 0);
    const why = await up.command('why', 'forbidden');
    assert.equal(why.code, 1, why.stderr);
    assert.match(why.stdout, /failed with policy_denied[\s\S]*policy:development-forbidden/);
    const again = await up.command('why', 'forbidden', '--try');
    assert.equal(again.code, 1, again.stderr);
    assert.match(again.stdout, /tried now: reset[\s\S]*policy_denied/);
    const denied = await eventually('the denial is recorded', async () => {
      const rows = await up.rows<{ decided_by: string; close_reason: string | null }>(
        "select decided_by, close_reason from audit.event where connection = 'forbidden' and type = 'stream.decision'",
      );
      return rows[0];
    });
    assert.equal(denied.decided_by, 'policy');
  });

  await t.test('the trail verifies against the trust file', async () => {
    const result = await eventually('everything is sealed and sent', async () => {
      const verified = await sallyport([
        '--json',
        'audit',
        'verify',
        '--database',
        up.ready().database_url,
        '--trust',
        up.ready().trust_file,
      ]);
      const parsed = JSON.parse(verified.stdout) as { ok: boolean; events: number; findings: unknown[] };
      return parsed.events > 0 ? parsed : undefined;
    });
    assert.deepEqual(result.findings, []);
  });

  await t.test('a second `up` on the same state is refused plainly', async () => {
    const second = await sallyport(['up', '--state', up.stateDirectory]);
    assert.equal(second.code, 2, second.stderr);
    assert.match(second.stderr, /another `sallyport up` \(process \d+\) uses/);
    assert.doesNotMatch(second.stderr, /^\s+at /m);
  });

  await t.test('a revoked key ends a query as lost, and `why --try` does not call it open', async () => {
    const query = up.command('audit', 'query', '--tunnel', 'select pg_sleep(60)');
    await eventually('the query runs', async () => {
      const rows = await up.rows(
        "select pid from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'",
      );
      return rows[0];
    });
    const revoked = await up.command(
      ...[
        'key',
        'revoke',
        '--auth-rule',
        'audit-db/defaultSender',
        '--slot',
        'primary',
        '--reason',
        'a test',
      ],
    );
    assert.equal(revoked.code, 0, revoked.stderr);
    const cut = await query;
    assert.equal(cut.code, 3, cut.stderr);
    assert.match(cut.stderr, /connection to the audit database ended under the query.*ERR_AUDIT_DATABASE/);
    const tried = await up.command('why', 'audit-db', '--try');
    assert.equal(tried.code, 1, tried.stdout);
    assert.match(tried.stdout, /tried now: reset .*no connected gateway has a valid key for it/);
  });

  await t.test('SIGTERM stops every process', async () => {
    const { pids } = up.ready();
    assert.equal(await up.stop(), 0, up.process.output());
    for (const [name, pid] of Object.entries(pids)) {
      assert.throws(() => process.kill(pid ?? 0, 0), `${name} still runs`);
    }
  });
});
