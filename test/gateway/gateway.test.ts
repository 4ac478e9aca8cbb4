import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { test } from 'node:test';
import { pino } from 'pino';
import type { Connect } from '../../src/agent/dialler.ts';
import { gatewayConfigSchema } from '../../src/gateway/index.ts';
import { isAppError } from '../../src/runtime/index.ts';
import {
  startEnds,
  startTestAgent,
  startTestGateway,
  startTestRelay,
  statusOf,
  untilReady,
} from '../agent/ends-fixture.ts';
import { MemoryAudit } from '../agent/memory-audit.ts';
import { startRelayNode } from '../relay/relay-fixture.ts';
import { eventually } from '../support/eventually.ts';
import { dial, listen, readToEnd } from '../support/sockets.ts';

const DEADLINE = { timeout: 30_000 };

const echoTo = (socket: Socket): void => {
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('end', () => socket.end());
};

/** A connect() that always fails as a closed port does. */
const refusedConnect: Connect = () => {
  const socket = new Socket();
  setImmediate(() => socket.destroy(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })));
  return socket;
};

const settings = {
  namespace: 'ns',
  name: 'gw',
  state_dir: '/tmp/x',
  relays: [{ host: 'relay.test', control_port: 443, data_ports: [443] }],
  connections: [{ name: 'db', connection_string: 'x', listen: '127.0.0.1:5000' }],
  status: { listen: '127.0.0.1:0' },
};

test('two connections on one address are a configuration error that names the place', () => {
  const result = gatewayConfigSchema.safeParse({
    ...settings,
    connections: [...settings.connections, { name: 'db2', connection_string: 'x', listen: '127.0.0.1:5000' }],
  });
  assert.deepEqual(result.error?.issues[0]?.path, ['connections', 1, 'listen']);
});

test('one connection twice is a configuration error', () => {
  const result = gatewayConfigSchema.safeParse({
    ...settings,
    connections: [...settings.connections, { name: 'db', connection_string: 'x', listen: '127.0.0.1:5001' }],
  });
  assert.deepEqual(result.error?.issues[0]?.path, ['connections', 1, 'name']);
});

test('a port in use is said plainly and nothing stays open', DEADLINE, async (t) => {
  const relay = await startTestRelay(t, 5_432);
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const { port } = taken.address() as { port: number };
  const config = gatewayConfigSchema.shape.connections.parse([
    {
      name: 'db',
      connection_string:
        'Endpoint=sb://relay.test/;SharedAccessKeyName=k_send;SharedAccessKey=a2V5;EntityPath=db',
      listen: `127.0.0.1:${port}`,
    },
  ]);
  await assert.rejects(startTestGateway(t, relay, { config: { connections: config } }), (error) => {
    assert.ok(isAppError(error, 'ERR_LISTEN_REFUSED'));
    assert.match(error.message, /another process listens there/);
    return true;
  });
});

test('a connection string of another connection is refused without showing it', DEADLINE, async (t) => {
  const relay = await startTestRelay(t, 5_432);
  const connections = [
    {
      name: 'db',
      connection_string:
        'Endpoint=sb://relay.test/;SharedAccessKeyName=k_send;SharedAccessKey=c2VjcmV0;EntityPath=other',
      listen: '127.0.0.1:0',
    },
  ];
  await assert.rejects(startTestGateway(t, relay, { config: { connections } }), (error) => {
    assert.ok(isAppError(error, 'ERR_GATEWAY_CONFIG'));
    assert.match(error.message, /is for connection other/);
    assert.doesNotMatch(error.message, /c2VjcmV0/);
    return true;
  });
});

test('a movable refusal is tried once through the other agent, early data kept', DEADLINE, async (t) => {
  const target = await listen(t, echoTo);
  const relay = await startTestRelay(t, target.port);
  const audits = [new MemoryAudit(), new MemoryAudit()] as const;
  const broken = await startTestAgent(t, relay, target.port, {
    name: 'agent-1',
    deps: { audit: audits[0], connect: refusedConnect },
  });
  await untilReady(broken.agent);
  const { gateway, listen: address } = await startTestGateway(t, relay);
  await untilReady(gateway);
  const good = await startTestAgent(t, relay, target.port, { name: 'agent-2', deps: { audit: audits[1] } });
  await untilReady(good.agent);
  // The only link there is leads to the first agent, so the first try is refused by it.
  const socket = dial(t, address);
  const end = readToEnd(socket);
  socket.end('early data');
  const { bytes, how } = await end;
  assert.equal(how, 'fin');
  assert.equal(bytes.toString(), 'early data');
  const first = await audits[0].until('stream.close');
  assert.equal(first.data.reason, 'target_unreachable');
  const second = await audits[1].until('stream.decision');
  assert.equal(second.subject.stream_id, first.subject.stream_id);
  assert.equal(second.subject.attempt, 2);
});

test('without another agent a movable refusal is a reset with its own reason', DEADLINE, async (t) => {
  const { listen: address, gateway } = await startEnds(t, echoTo, {
    agent: { deps: { audit: new MemoryAudit(), connect: refusedConnect } },
  });
  assert.equal((await readToEnd(dial(t, address))).how, 'ECONNRESET');
  const [connection] = (await statusOf(gateway))['connections'] as { failures: { reason: string }[] }[];
  assert.equal(connection?.failures[0]?.reason, 'target_unreachable');
});

test('an agent that refuses a data link is given as the reason by its own code', DEADLINE, async (t) => {
  const { relay, listen: address } = await startEnds(t, echoTo, {
    agent: { config: { limits: { links: 1 } } },
  });
  // The one data link that this agent may have is the first gateway's.
  const held = dial(t, address);
  held.on('error', () => undefined);
  held.write('x');
  await once(held, 'data');
  const other = await startTestGateway(t, relay, { config: { name: 'gateway-2' }, eager: false });
  assert.equal((await readToEnd(dial(t, other.listen))).how, 'ECONNRESET');
  const [connection] = (await statusOf(other.gateway))['connections'] as { failures: { reason: string }[] }[];
  assert.equal(connection?.failures[0]?.reason, 'overloaded');
  const { data } = await relay.audit.until(
    ({ type, subject }) => type === 'link.refused' && subject.gateway === 'gateway-2',
  );
  assert.equal((data as { reason?: string }).reason, 'overloaded');
  held.write('y');
  await once(held, 'data');
});

test('when one agent goes, its streams are reset and new ones go through the other', DEADLINE, async (t) => {
  const target = await listen(t, echoTo);
  const relay = await startTestRelay(t, target.port);
  const first = await startTestAgent(t, relay, target.port, {
    name: 'agent-1',
    deps: { audit: new MemoryAudit() },
  });
  await untilReady(first.agent);
  const { gateway, listen: address } = await startTestGateway(t, relay);
  await untilReady(gateway);
  const second = await startTestAgent(t, relay, target.port, {
    name: 'agent-2',
    deps: { audit: new MemoryAudit() },
  });
  await untilReady(second.agent);
  const socket = dial(t, address);
  socket.write('x');
  await once(socket, 'data');
  const links = async (): Promise<{ agent: string }[]> => {
    const [connection] = (await statusOf(gateway))['connections'] as { links: { agent: string }[] }[];
    return connection?.links ?? [];
  };
  await eventually('a second link', async () => ((await links()).length === 2 ? true : undefined));
  const end = readToEnd(socket);
  await first.agent.close();
  assert.equal((await end).how, 'ECONNRESET');
  const next = dial(t, address);
  const nextEnd = readToEnd(next);
  next.end('again');
  assert.equal((await nextEnd).bytes.toString(), 'again');
});

test('without a relay an application waits no longer than open_timeout', DEADLINE, async (t) => {
  const relay = await startTestRelay(t, 5_432);
  await relay.node.close();
  const limits = gatewayConfigSchema.shape.limits.parse({ open_timeout_seconds: 0.2 });
  const { gateway, listen: address } = await startTestGateway(t, relay, { config: { limits } });
  assert.equal((await readToEnd(dial(t, address))).how, 'ECONNRESET');
  const [connection] = (await statusOf(gateway))['connections'] as { failures: { reason: string }[] }[];
  assert.equal(connection?.failures[0]?.reason, 'open_timeout');
  const response = await fetch(`${gateway.statusUrl}/readyz`);
  assert.equal(response.status, 503);
});

test('a wrong key is said plainly and resets applications at once', DEADLINE, async (t) => {
  const relay = await startTestRelay(t, 5_432);
  const lines: Record<string, unknown>[] = [];
  const logger = pino(
    {},
    { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const { gateway, listen: address } = await startTestGateway(t, relay, { key: 'k_wrong', deps: { logger } });
  const reason = await eventually('a reason', async () => {
    const response = await fetch(`${gateway.statusUrl}/readyz`);
    const { reasons } = (await response.json()) as { reasons: string[] };
    return reasons.find((line) => line.includes('not_authorized'));
  });
  assert.match(reason, /connection db/);
  const logged = lines.find(({ msg }) => String(msg).startsWith('the key of db is refused: '));
  assert.deepEqual(
    [logged?.['connection'], logged?.['code']],
    ['db', 'not_authorized'],
    JSON.stringify(lines),
  );
  assert.equal((await readToEnd(dial(t, address))).how, 'ECONNRESET');
});

test('a restarted relay gets its links again without other help', DEADLINE, async (t) => {
  const {
    relay,
    listen: address,
    gateway,
  } = await startEnds(t, echoTo, {
    agent: { deps: { audit: new MemoryAudit() } },
  });
  const socket = dial(t, address);
  socket.write('x');
  await once(socket, 'data');
  const end = readToEnd(socket);
  await relay.node.close();
  assert.equal((await end).how, 'ECONNRESET');
  const [connection] = (await statusOf(gateway))['connections'] as { links: unknown[] }[];
  assert.deepEqual(connection?.links, []);
  const again = await startRelayNode({ listen: [`127.0.0.1:${relay.port}`] });
  t.after(() => again.node.close());
  const record = relay.control.connectionRecords.get('db');
  assert.ok(record);
  again.control.connectionRecords.set('db', record);
  await untilReady(gateway);
  const next = dial(t, address);
  const nextEnd = readToEnd(next);
  next.end('again');
  assert.equal((await nextEnd).bytes.toString(), 'again');
});

test('metrics carry the names that interfaces.md lists', DEADLINE, async (t) => {
  const { started, gateway } = await startEnds(t, echoTo);
  const agentText = await (await fetch(`${started.agent.statusUrl}/metrics`)).text();
  for (const name of [
    'streams_open',
    'streams_opened_total',
    'streams_refused_total',
    'bytes_total',
    'links',
    'logins',
    'decision_seconds',
    'decision_queue',
    'audit_spool_bytes',
    'audit_oldest_unacknowledged_seconds',
    'audit_dropped',
    'revocation_enforce_seconds',
    'reconnects_total',
    'credit_stalls',
    'nodejs_eventloop_lag_seconds',
  ]) {
    assert.match(agentText, new RegExp(`^# TYPE sallyport_${name} `, 'm'), name);
  }
  const gatewayText = await (await fetch(`${gateway.statusUrl}/metrics`)).text();
  for (const name of ['streams_open', 'links', 'logins', 'link_rtt_seconds', 'open_seconds']) {
    assert.match(gatewayText, new RegExp(`^# TYPE sallyport_${name} `, 'm'), name);
  }
});
