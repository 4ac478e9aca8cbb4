import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agentConfigSchema } from '../../src/agent/index.ts';
import { listen } from '../support/sockets.ts';
import { startTestAgent, startTestRelay, untilReady } from './ends-fixture.ts';
import { MemoryAudit } from './memory-audit.ts';

const DEADLINE = { timeout: 30_000 };

test('a gateway beside the agent is no target, until it is one no longer', DEADLINE, async (t) => {
  const target = await listen(t, (socket) => socket.pipe(socket));
  const relay = await startTestRelay(t, target.port);
  const audit = new MemoryAudit();
  const { agent, config } = await startTestAgent(t, relay, target.port, {
    deps: { audit },
    config: { own_listeners: [`127.0.0.1:${target.port}`] },
  });
  const { data } = await audit.until('publish.decision');
  assert.deepEqual([data.allow, data.decided_by], [false, 'guard']);
  assert.match(JSON.stringify(data), /"code":"loop".*"own_listener"/);
  await agent.reload({ ...config, own_listeners: [] });
  await untilReady(agent);
});

test('a name that leads to a gateway on this machine alone is a loop, not a target', DEADLINE, async (t) => {
  const relay = await startTestRelay(t, 5_432);
  const record = relay.control.connectionRecords.get('db');
  assert.ok(record);
  relay.control.connectionRecords.set('db', { ...record, target: { host: 'db.test', port: 5_432 } });
  const audit = new MemoryAudit();
  const lookup = (): Promise<string[]> => Promise.resolve(['::ffff:127.77.1.2']);
  await startTestAgent(t, relay, 5_432, { deps: { audit, lookup } });
  const { data } = await audit.until('publish.decision');
  assert.match(JSON.stringify(data), /"code":"loop".*"own_listener"/);
});

test('what is no listener is refused in agent.yaml', () => {
  for (const text of ['127.0.0.1', '127.0.0.1:0', ':5432']) {
    const result = agentConfigSchema.shape.own_listeners.safeParse([text]);
    assert.equal(result.success, false, text);
  }
});
