import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { agentConfigSchema } from '../../src/agent/index.ts';
import { readConfig } from '../../src/runtime/index.ts';
import { startAgentHere } from '../support/agent-in-process.ts';
import { sallyport } from '../support/command.ts';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { managedPlace } from '../support/managed-place.ts';
import { askOnce, dial, echo, holdStreams, readToEnd } from '../support/sockets.ts';

const HELD = 20;

interface Row {
  readonly type: string;
  readonly decided_by: string | null;
  readonly close_reason: string | null;
  readonly managed_sha256: string | null;
  readonly stream_id: string | null;
  readonly canonical: Buffer;
}

test('managed settings bound a deployment whose bundle allows everything, and the trail says so', async (t) => {
  const orders = await echo(t);
  const stock = await echo(t);
  const place = managedPlace(t);
  const deployment = await createDeployment(t, {
    publish: { orders: `127.0.0.1:${orders.port}`, stock: `127.0.0.1:${stock.port}` },
  });
  deployment.start('relay');
  await deployment.ready('relay');
  const files = {
    traceFile: join(deployment.directory, 'trace.jsonl'),
    faultFile: join(deployment.directory, 'faults'),
  };
  const agent = await startAgentHere(t, deployment, files, { managedLocation: place.location });
  const config = await readConfig(join(deployment.directory, 'agent.yaml'), agentConfigSchema);
  deployment.start('gateway');
  await deployment.ready('gateway');
  assert.equal(await askOnce(t, deployment.listenOf('orders'), 'before'), 'before');

  const held = await holdStreams(t, deployment.listenOf('orders'), HELD);
  const kept = await holdStreams(t, deployment.listenOf('stock'), HELD);
  const ends = held.map((socket) => readToEnd(socket));

  // Written by nobody's signal: the file is watched. Only `stock` stays designated.
  place.put(`designated: ['127.0.0.1:${stock.port}']\n`);
  for (const { how } of await Promise.all(ends)) assert.equal(how, 'ECONNRESET');
  for (const socket of kept) {
    const answer = new Promise((resolve) => socket.once('data', resolve));
    socket.write('still');
    assert.equal(String(await answer), 'still');
  }
  const before = orders.sockets.length;
  assert.equal((await readToEnd(dial(t, deployment.listenOf('orders')))).how, 'ECONNRESET');
  assert.equal(orders.sockets.length, before, 'nothing reached the target');

  // A wider file that the group may write is not taken.
  place.put('connections: enabled\n', 0o664);
  await agent.reload(config);
  const status = (await (await fetch(`${agent.statusUrl}/status`)).json()) as {
    managed: { state: string; refused: { message: string } };
  };
  assert.equal(status.managed.state, 'in_force');
  assert.match(status.managed.refused.message, /writable by its group/);
  const shown = await sallyport(['policy', 'status', '-c', 'agent.yaml'], { cwd: deployment.directory });
  assert.match(
    shown.stdout,
    /managed +settings of .*managed\.yaml: in force since \d{4}-\S+Z\n +bounds: .*1 designated target\n +refused .*writable by its group/,
  );
  const overview = await deployment.command('status', '-c', join(deployment.directory, 'agent.yaml'));
  assert.match(
    overview.stdout,
    /^managed settings of .*managed\.yaml: in force since \d{4}-\S+Z\n {2}bounds: .*1 designated target\n {2}refused .*writable by its group/m,
  );
  const { managed } = JSON.parse(
    (await deployment.command('status', '-c', join(deployment.directory, 'agent.yaml'), '--json')).stdout,
  ) as {
    managed: { state: string; since: string; path: string; settings: { designated: number } };
  };
  assert.deepEqual([managed.state, managed.settings.designated], ['in_force', 1]);
  assert.ok(Date.parse(managed.since) <= Date.now() && managed.path.endsWith('managed.yaml'));
  assert.equal((await readToEnd(dial(t, deployment.listenOf('orders')))).how, 'ECONNRESET');

  // Disabled: the rest ends too, and the agent leaves the relay.
  const rest = kept.map((socket) => readToEnd(socket));
  place.put('connections: disabled\n');
  await agent.reload(config);
  for (const { how } of await Promise.all(rest)) assert.equal(how, 'ECONNRESET');
  await eventually('no agent is logged in', async () => {
    const { stdout } = await deployment.command('login', 'list', '--json');
    const rows = JSON.parse(stdout) as { role: string; state: string }[];
    return rows.some(({ role, state }) => role === 'agent' && state === 'up') ? undefined : true;
  });

  place.remove();
  await deployment.ready('gateway');
  assert.equal(await askOnce(t, deployment.listenOf('orders'), 'again'), 'again');

  const rows = await eventually('the trail has it', async () => {
    const found = await deployment.rows<Row>(
      `select type, decided_by, close_reason, managed_sha256, stream_id, canonical from audit.event
         where type in ('managed.changed', 'managed.refused')
            or (type in ('stream.decision', 'stream.close') and 'managed_denied' in (close_reason, reasons[1]))
         order by seq`,
    );
    return found.filter(({ type }) => type === 'managed.changed').length >= 3 ? found : undefined;
  });
  const changed = rows.filter(({ type }) => type === 'managed.changed');
  const [narrowed, disabled, removed] = changed.map(
    ({ canonical }) =>
      (JSON.parse(canonical.toString()) as { data: { before: object; after: Record<string, unknown> } }).data,
  );
  assert.deepEqual(narrowed?.before, { state: 'absent' });
  assert.equal(narrowed.after.designated, 1);
  assert.deepEqual(disabled?.before, narrowed.after);
  assert.equal(disabled.after.connections, 'disabled');
  assert.deepEqual(removed?.after, { state: 'absent' });
  assert.equal(rows.filter(({ type }) => type === 'managed.refused').length, 1);

  const closes = rows.filter(({ type }) => type === 'stream.close');
  assert.equal(closes.length, 2 * HELD);
  const cuts = rows.filter(({ type, stream_id }) => type === 'stream.decision' && stream_id !== null);
  for (const { decided_by, managed_sha256, close_reason } of cuts) {
    assert.equal(decided_by, 'managed');
    assert.equal(close_reason, 'managed_denied');
    assert.ok([narrowed.after.sha256, disabled.after.sha256].includes(managed_sha256));
  }
  assert.deepEqual(
    new Set(closes.map(({ stream_id }) => stream_id)),
    new Set(
      cuts.map(({ stream_id }) => stream_id).filter((id) => closes.some(({ stream_id }) => stream_id === id)),
    ),
  );
});
