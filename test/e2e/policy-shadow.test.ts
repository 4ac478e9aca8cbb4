import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DEFAULT_BUNDLE_FILE, developmentBundle } from '../../src/policy/index.ts';
import { type CommandResult, sallyport } from '../support/command.ts';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, dial, echo } from '../support/sockets.ts';

interface Shown {
  readonly state: string;
  readonly counts: {
    readonly evaluated: number;
    readonly would_deny: number;
    readonly errors: number;
  } | null;
}

test('a bundle that forbids everything, previewed and in the shadow of an agent that serves on', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, {
    publish: { orders: `127.0.0.1:${target.port}` },
    edit: {
      agent: (settings) => {
        settings['policy'] = { ...(settings['policy'] as object), require_signed: false };
      },
    },
  });
  const { directory } = deployment;
  writeFileSync(
    join(directory, 'forbidding.tar.gz'),
    developmentBundle(
      readFileSync(DEFAULT_BUNDLE_FILE),
      [{ name: 'orders', host: '127.0.0.1', port: target.port }],
      { sequence: 50, forbidden: ['orders'] },
    ),
  );
  await deployment.startAll();
  const address = deployment.listenOf('orders');
  assert.equal(await askOnce(t, address, 'before'), 'before');

  const policy = (...args: string[]): Promise<CommandResult> =>
    sallyport(['--json', 'policy', ...args, '-c', 'agent.yaml'], { cwd: directory });
  const shown = async (): Promise<Shown> => JSON.parse((await policy('shadow')).stdout) as Shown;
  const untilDenied = (count: number): Promise<Shown> =>
    eventually(`${String(count)} would be denied`, async () => {
      const state = await shown();
      return (state.counts?.would_deny ?? 0) >= count ? state : undefined;
    });

  const started = await policy('shadow', 'forbidding.tar.gz', '--reason', 'SEC-42');
  assert.equal(started.code, 0, started.stderr);
  for (let at = 0; at < 3; at += 1) assert.equal(await askOnce(t, address, String(at)), String(at));
  const { state, counts } = await untilDenied(3);
  assert.deepEqual([state, counts?.errors], ['running', 0]);
  const metrics = await (await fetch(`${deployment.statusUrl('agent')}/metrics`)).text();
  assert.match(metrics, /^sallyport_shadow_decisions_total\{.*result="would_deny".*\} 3$/m);
  assert.match(metrics, /^sallyport_shadow\{.*state="running".*\} 1$/m);
  assert.match(metrics, /^sallyport_shadow\{.*state="off".*\} 0$/m);

  const open = dial(t, address);
  open.on('error', () => undefined);
  open.write('open');
  await new Promise((resolve) => open.once('data', resolve));
  const live = await policy('diff', 'forbidding.tar.gz', '--live');
  assert.equal(live.code, 1, live.stderr);
  const { would_close: wouldClose, streams } = JSON.parse(live.stdout) as {
    would_close: number;
    streams: { connection: string }[];
  };
  assert.deepEqual([wouldClose, streams[0]?.connection], [1, 'orders']);
  open.write('still');
  assert.equal(String(await new Promise((resolve) => open.once('data', resolve))), 'still');

  const [row] = await eventually('the trail has it', async () => {
    const rows = await deployment.rows<{ shadow: boolean; action: string; decision: string }>(
      `select e.shadow, e.action, d.action as decision from audit.event as e
       join audit.decisions as d on d.event_id::text = audit.details(e.canonical) #>> '{data,decision_id}'
       where e.type = 'policy.shadow' and e.connection = 'orders'`,
    );
    return rows.length > 0 ? rows : undefined;
  });
  assert.deepEqual(row, { shadow: true, action: 'denied', decision: 'allowed' });
  const denied = async (from: string): Promise<number> =>
    (await deployment.rows<{ n: number }>(`select count(*)::int as n from ${from}`))[0]?.n ?? -1;
  assert.equal(await denied('audit.denies'), 0, 'what was not enforced is no denial');
  assert.equal(await denied('audit.key_usage where denied > 0'), 0);
  assert.equal(await denied('audit.decisions where bundle_sequence = 50'), 0);
  const query = await sallyport(['--json', 'audit', 'query', 'shadow-differences'], {
    env: { DATABASE_URL: deployment.databaseUrl },
  });
  assert.equal(query.code, 0, query.stderr);
  assert.match(query.stdout, /would_deny/);
  assert.match(query.stdout, new RegExp(`127\\.0\\.0\\.1:${String(target.port)}`));

  await deployment.kill('agent');
  deployment.start('agent');
  await deployment.ready('agent');
  const again = await eventually('it runs after the restart', async () => {
    const one = await shown();
    return one.state === 'running' ? one : undefined;
  });
  assert.equal(again.state, 'running');
  // The gateway may not know yet that the links of the killed agent are gone.
  const after = await eventually('streams again', () => askOnce(t, address, 'after').catch(() => undefined));
  assert.equal(after, 'after');
  await untilDenied(1);
  const status = await sallyport(['policy', 'status', '-c', 'agent.yaml'], { cwd: directory });
  assert.match(status.stdout, /shadow +sequence 50/);

  const stopped = await policy('shadow', '--stop');
  assert.equal(stopped.code, 0, stopped.stderr);
  assert.equal((await shown()).state, 'off');
  assert.equal((await policy('shadow', '--stop')).code, 1);
});
