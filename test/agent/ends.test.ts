import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { dial, listen as listenFor, readToEnd } from '../support/sockets.ts';
import { eventually } from '../support/eventually.ts';
import {
  startEnds,
  startTestAgent,
  startTestGateway,
  startTestRelay,
  statusOf,
  untilReady,
  writeBundle,
} from './ends-fixture.ts';
import { MemoryAudit } from './memory-audit.ts';

const DEADLINE = { timeout: 30_000 };

const echoTo = (socket: Socket): void => {
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('end', () => socket.end());
};

/** A stream that carried a byte both ways and stays open. */
const openStream = async (t: Parameters<typeof dial>[0], listen: string): Promise<Socket> => {
  const socket = dial(t, listen);
  // The test's own end resets what is left.
  socket.on('error', () => undefined);
  socket.write('x');
  await once(socket, 'data');
  return socket;
};

const closeOf = (socket: Socket | undefined): Promise<void> =>
  new Promise((resolve) => socket?.once('close', () => resolve()));

const resetOf = async (socket: Socket): Promise<string> => (await readToEnd(socket)).how;

test('bytes and half-close go through gateway, relay and agent with a real spool', DEADLINE, async (t) => {
  const { listen, started } = await startEnds(t, (socket) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    // Answers only after the client's FIN: that arrives as a FIN or nothing ever comes back.
    socket.on('end', () => socket.end(`got ${Buffer.concat(chunks).toString()}`));
  });
  const socket = dial(t, listen);
  const end = readToEnd(socket);
  socket.end('hello');
  const { bytes, how } = await end;
  assert.equal(how, 'fin');
  assert.equal(bytes.toString(), 'got hello');
  const status = await statusOf(started.agent);
  assert.equal((status['connections'] as { state: string }[])[0]?.state, 'published');
});

test('decision, close and link events name the same stream, with its bytes', DEADLINE, async (t) => {
  const audit = new MemoryAudit();
  const { listen, gateway } = await startEnds(t, echoTo, { agent: { deps: { audit } } });
  const socket = dial(t, listen);
  const end = readToEnd(socket);
  socket.end('hello');
  await end;
  const decision = await audit.until('stream.decision');
  const close = await audit.until('stream.close');
  assert.equal(decision.data.allow, true);
  assert.equal(decision.subject.target_addr, '127.0.0.1');
  assert.equal(decision.subject.key_id, 'k_send');
  assert.equal(close.subject.stream_id, decision.subject.stream_id);
  assert.equal(close.data.bytes_up, 5);
  assert.equal(close.data.bytes_down, 5);
  assert.ok(['client_fin', 'target_fin'].includes(close.data.reason));
  const opened = await audit.until('link.opened');
  await gateway.close();
  const closed = await audit.until('link.closed');
  assert.equal(closed.subject.link_id, opened.subject.link_id);
  assert.ok((closed.data.bytes_up ?? 0) > 0 && (closed.data.bytes_down ?? 0) > 0);
  assert.equal(opened.subject.own_spki?.length, 64);
});

test('a revoked key loses its streams at both ends, another key not one byte', DEADLINE, async (t) => {
  const audit = new MemoryAudit();
  const { relay, listen, target } = await startEnds(t, echoTo, { agent: { deps: { audit } } });
  const other = await startTestGateway(t, relay, { key: 'k_send2', config: { name: 'gateway-2' } });
  await untilReady(other.gateway);
  const doomed = await Promise.all([openStream(t, listen), openStream(t, listen), openStream(t, listen)]);
  const kept = await openStream(t, other.listen);
  const ends = doomed.map((socket) => resetOf(socket));
  const targets = target.sockets.slice(0, 3).map((socket) => closeOf(socket));
  relay.control.revoke('k_send');
  assert.deepEqual(await Promise.all(ends), ['ECONNRESET', 'ECONNRESET', 'ECONNRESET']);
  await Promise.all(targets);
  await eventually('three closes', () => (audit.of('stream.close').length === 3 ? true : undefined));
  assert.deepEqual(
    audit.of('stream.close').map(({ data }) => data.reason),
    ['key_revoked', 'key_revoked', 'key_revoked'],
  );
  kept.write('y');
  assert.equal(String((await once(kept, 'data'))[0]), 'y');
  // A new stream on the revoked key is refused at once.
  assert.equal(await resetOf(dial(t, listen)), 'ECONNRESET');
});

test('a bundle that forbids a connection cuts its live streams and refuses new ones', DEADLINE, async (t) => {
  const audit = new MemoryAudit();
  const { listen, started, target } = await startEnds(t, echoTo, { agent: { deps: { audit } } });
  const socket = await openStream(t, listen);
  const end = resetOf(socket);
  writeBundle(started.bundleFile, target.port, { sequence: 1_000, forbidden: ['db'] });
  await started.agent.reload(started.config);
  assert.equal(await end, 'ECONNRESET');
  const close = await audit.until('stream.close');
  assert.equal(close.data.reason, 'policy_changed');
  const cut = await audit.until('stream.decision', ({ data }) => !data.allow);
  assert.equal(cut.subject.stream_id, close.subject.stream_id);
  assert.equal(cut.data.recheck, true, 'what was open already was cut');
  assert.equal(await resetOf(dial(t, listen)), 'ECONNRESET');
  const denial = await audit.until(
    'stream.decision',
    ({ data, subject }) => !data.allow && subject.stream_id !== cut.subject.stream_id,
  );
  assert.deepEqual([denial.data.decided_by, denial.data.reason], ['policy', 'policy_denied']);
  assert.equal(denial.data.recheck, undefined, 'what never opened was refused');
  const status = await statusOf(started.agent);
  const failures = status['failures'] as { reason: string; stream_id: string }[];
  assert.equal(failures[0]?.reason, 'policy_denied');
});

test('without a bundle nothing is published and the application is reset', DEADLINE, async (t) => {
  const { listen, started } = await startEnds(t, echoTo, { agent: { bundle: 'none' } });
  assert.equal(await resetOf(dial(t, listen)), 'ECONNRESET');
  const response = await fetch(`${started.agent.statusUrl}/readyz`);
  assert.equal(response.status, 503);
  assert.match(await response.text(), /no policy bundle is active/);
});

test('a name that resolves to a guarded address is not published', DEADLINE, async (t) => {
  const relay = await startTestRelay(t, 5_432);
  const record = relay.control.connectionRecords.get('db');
  assert.ok(record);
  relay.control.connectionRecords.set('db', { ...record, target: { host: 'db.test', port: 5_432 } });
  const audit = new MemoryAudit();
  const lookup = (host: string) =>
    Promise.resolve(host === 'db.test' ? ['169.254.169.254', '::ffff:127.0.0.1'] : [host]);
  await startTestAgent(t, relay, 5_432, { deps: { audit, lookup }, config: { allow_loopback: [] } });
  const decision = await audit.until('publish.decision');
  assert.equal(decision.data.allow, false);
  assert.equal(decision.data.decided_by, 'guard');
});

test(
  'a target that refuses is a reset at the application, with the reason to be asked for',
  DEADLINE,
  async (t) => {
    const audit = new MemoryAudit();
    const { listen, target, gateway } = await startEnds(t, echoTo, { agent: { deps: { audit } } });
    target.server.close();
    await once(target.server, 'close');
    assert.equal(await resetOf(dial(t, listen)), 'ECONNRESET');
    const close = await audit.until('stream.close');
    assert.equal(close.data.reason, 'target_unreachable');
    const status = await statusOf(gateway);
    const [connection] = status['connections'] as { failures: { reason: string; stream_id: string }[] }[];
    assert.equal(connection?.failures[0]?.reason, 'target_unreachable');
    assert.equal(connection.failures[0].stream_id, close.subject.stream_id);
  },
);

test('an audit log that takes nothing stops new streams, and old ones go on', DEADLINE, async (t) => {
  const audit = new MemoryAudit();
  const { listen, started } = await startEnds(t, echoTo, { agent: { deps: { audit } } });
  const socket = await openStream(t, listen);
  audit.isAvailable = false;
  assert.equal(await resetOf(dial(t, listen)), 'ECONNRESET');
  socket.write('y');
  assert.equal(String((await once(socket, 'data'))[0]), 'y');
  const response = await fetch(`${started.agent.statusUrl}/readyz`);
  assert.match(await response.text(), /audit takes no decision/);
});

test(
  'a reset by the target reaches the application as a reset, and the other way round',
  DEADLINE,
  async (t) => {
    const audit = new MemoryAudit();
    const { listen, target } = await startEnds(t, echoTo, { agent: { deps: { audit } } });
    const first = await openStream(t, listen);
    const firstEnd = resetOf(first);
    target.sockets[0]?.resetAndDestroy();
    assert.equal(await firstEnd, 'ECONNRESET');
    assert.equal((await audit.until('stream.close')).data.reason, 'target_reset');
    const second = await openStream(t, listen);
    const closed = closeOf(target.sockets[1]);
    second.resetAndDestroy();
    await closed;
    await audit.until('stream.close', ({ data }) => data.reason === 'client_reset');
  },
);

test('a draining agent lets streams finish, opens none, and leaves', DEADLINE, async (t) => {
  const audit = new MemoryAudit();
  const { listen, started } = await startEnds(t, echoTo, { agent: { deps: { audit } } });
  const socket = await openStream(t, listen);
  const drained = started.agent.drain();
  assert.equal(await resetOf(dial(t, listen)), 'ECONNRESET');
  const end = readToEnd(socket);
  socket.end('z');
  assert.equal((await end).bytes.toString(), 'z');
  await drained;
  await started.agent.close();
  assert.equal(audit.events.at(-1)?.type, 'agent.stopped');
});

test(
  'a gateway that leaves in good order says so: its links end gateway_shutdown, counted alike',
  DEADLINE,
  async (t) => {
    const audit = new MemoryAudit();
    const { relay, listen, gateway } = await startEnds(t, echoTo, { agent: { deps: { audit } } });
    const socket = await openStream(t, listen);
    const end = readToEnd(socket);
    const drained = gateway.drain();
    socket.end('z');
    assert.equal((await end).bytes.toString(), 'z');
    await drained;
    await gateway.close();
    const { subject, data } = await audit.until('link.closed');
    assert.equal(data.reason, 'gateway_shutdown');
    const seen = await relay.audit.until(
      ({ type, subject: of }) => type === 'link.closed' && of.link_id === subject.link_id,
    );
    const { bytes_up: up, bytes_down: down } = seen.data as typeof data;
    assert.deepEqual([up, down], [data.bytes_up, data.bytes_down]);
  },
);

test('a connection that is deleted loses its streams', DEADLINE, async (t) => {
  const audit = new MemoryAudit();
  const { relay, listen } = await startEnds(t, echoTo, { agent: { deps: { audit } } });
  const socket = await openStream(t, listen);
  const end = resetOf(socket);
  relay.control.change({ change: 'gone', name: 'db', id: 'id-db' } as never);
  assert.equal(await end, 'ECONNRESET');
  assert.equal((await audit.until('stream.close')).data.reason, 'connection_removed');
});

test('a revocation told by one node cuts the streams over every other node', DEADLINE, async (t) => {
  const audit = new MemoryAudit();
  const target = await listenFor(t, echoTo);
  const first = await startTestRelay(t, target.port);
  const second = await startTestRelay(t, target.port, 'localhost');
  const { agent } = await startTestAgent(t, first, target.port, { relays: [first, second], deps: { audit } });
  await eventually('published at both nodes', async () => {
    const connections = (await statusOf(agent))['connections'] as { offered: boolean }[];
    return connections.filter(({ offered }) => offered).length === 2 ? true : undefined;
  });
  const { gateway, listen } = await startTestGateway(t, first);
  await untilReady(gateway);
  const socket = await openStream(t, listen);
  const end = resetOf(socket);
  // The first node and the gateway hear nothing of it.
  second.control.revoke('k_send');
  assert.equal(await end, 'ECONNRESET');
  assert.equal((await audit.until('stream.close')).data.reason, 'key_revoked');
  const enforced = await audit.until('revocation.enforced');
  assert.deepEqual([enforced.data.links, enforced.data.streams], [1, 1]);
  assert.equal((await audit.until('link.closed')).data.reason, 'key_revoked');
  // Nor does a link come up on that key again.
  assert.equal(await resetOf(dial(t, listen)), 'ECONNRESET');
});
