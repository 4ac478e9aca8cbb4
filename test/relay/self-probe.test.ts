import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { CONFLICT_KEPT_MS, DIALS_PER_ROUND, SELF_PROBE_EVERY_MS } from '../../src/relay/self-probe.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { HOST, startRelayNode, TLS } from './relay-fixture.ts';

/** A TCP balancer that gives connections to its ports in turn. */
const startBalancer = async (t: TestContext) => {
  const ports: number[] = [];
  const sockets: Socket[] = [];
  let turn = 0;
  const server = createServer((down) => {
    sockets.push(down);
    down.on('error', () => undefined);
    const port = ports[turn % Math.max(1, ports.length)];
    turn += 1;
    if (port === undefined) {
      down.destroy();
      return;
    }
    const up = connect(port, HOST);
    sockets.push(up);
    up.on('error', () => down.destroy());
    down.pipe(up).pipe(down);
  });
  server.listen(0, HOST);
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    port: (server.address() as AddressInfo).port,
    ports,
    /** Connections so far. */
    count: () => turn,
  };
};

test('a node behind an address that another node has too is not ready, and says why, until it has its own', async (t) => {
  const clock = new ManualClock();
  const balancer = await startBalancer(t);
  const other = await startRelayNode();
  const relay = await startRelayNode({ clock, publicPorts: [balancer.port] });
  await eventually('the first round is over', () => (balancer.count() >= DIALS_PER_ROUND ? true : undefined));
  assert.deepEqual(relay.node.notReady(), [], 'an address that does not answer says nothing');

  balancer.ports.push(relay.port, other.port);
  await eventually('the other node is seen', () => {
    clock.advance(SELF_PROBE_EVERY_MS);
    return relay.node.notReady().length > 0 ? true : undefined;
  });
  assert.deepEqual(relay.node.notReady(), [
    `${HOST}:${balancer.port} is answered by another process as well (public host ${HOST}): a node needs an address of its own`,
  ]);

  balancer.ports.splice(0, 2, relay.port);
  const rounds = CONFLICT_KEPT_MS / SELF_PROBE_EVERY_MS + 1;
  for (let round = 0; round < rounds; round += 1) {
    const before = balancer.count();
    await eventually('a round of answers from this node alone', () => {
      clock.advance(SELF_PROBE_EVERY_MS);
      return balancer.count() >= before + DIALS_PER_ROUND ? true : undefined;
    });
  }
  assert.deepEqual(relay.node.notReady(), []);
  await Promise.all([relay.node.close(), other.node.close()]);
});

test('what is no relay at the public address, and nobody there, is not another node', async (t) => {
  const clock = new ManualClock();
  let asked = 0;
  const server = createTlsServer({ cert: TLS.cert, key: TLS.key, ALPNProtocols: ['sp.probe'] }, (socket) => {
    asked += 1;
    socket.on('error', () => undefined);
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
  });
  server.listen(0, HOST);
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const relay = await startRelayNode({ clock, publicPorts: [port, await freePort()] });
  await eventually('two rounds are over', () => {
    clock.advance(SELF_PROBE_EVERY_MS);
    return asked >= 6 ? true : undefined;
  });
  assert.deepEqual(relay.node.notReady(), []);
  await relay.node.close();
});

test('closing a node does not wait for a public address that does not answer', async (t) => {
  const silent = createServer((socket) => socket.on('error', () => undefined));
  silent.listen(0, HOST);
  await once(silent, 'listening');
  t.after(() => silent.close());
  const dialled = once(silent, 'connection') as Promise<[Socket]>;
  const relay = await startRelayNode({
    clock: new ManualClock(),
    publicPorts: [(silent.address() as AddressInfo).port],
  });
  const [socket] = await dialled;
  const gone = once(socket.resume(), 'close');
  await relay.node.close();
  await gone;
});
