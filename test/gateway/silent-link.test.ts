import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import {
  startTestAgent,
  startTestGateway,
  startTestRelay,
  statusOf,
  untilReady,
} from '../agent/ends-fixture.ts';
import { MemoryAudit } from '../agent/memory-audit.ts';
import { eventually } from '../support/eventually.ts';
import { type Forwarder, forwardTo } from '../support/forwarder.ts';
import { askOnce, dial, echo, holdStreams, readToEnd } from '../support/sockets.ts';

const DEADLINE = { timeout: 60_000 };

interface Connection {
  readonly links: readonly { readonly node: string; readonly state: string }[];
  readonly failures: readonly { readonly reason: string }[];
}

/** One agent at two nodes, and a gateway whose way to each of them can fall silent. */
const startRig = async (t: TestContext) => {
  const audit = new MemoryAudit();
  const target = await echo(t);
  const nodes = [await startTestRelay(t, target.port), await startTestRelay(t, target.port, 'localhost')];
  const [first] = nodes;
  assert.ok(first);
  const { agent } = await startTestAgent(t, first, target.port, { relays: nodes, deps: { audit } });
  await eventually('published at both nodes', async () => {
    const { connections } = (await statusOf(agent)) as { connections: { offered: boolean }[] };
    return connections.filter(({ offered }) => offered).length === 2 ? true : undefined;
  });
  const ways = new Map<string, Forwarder>();
  const relays = [];
  for (const node of nodes) {
    const way = await forwardTo(t, node.port);
    ways.set(node.config.host, way);
    relays.push({ ...node, config: { ...node.config, control_port: way.port, data_ports: [way.port] } });
  }
  const { gateway, listen: address } = await startTestGateway(t, first, { relays });
  await eventually('logged in at both nodes', async () => {
    const { logins } = (await statusOf(gateway)) as { logins: { state: string }[] };
    return logins.every(({ state }) => state === 'up') ? true : undefined;
  });
  await untilReady(gateway);
  const connection = async (): Promise<Connection> => {
    const { connections } = (await statusOf(gateway)) as { connections: Connection[] };
    assert.ok(connections[0]);
    return connections[0];
  };
  const [link] = (await connection()).links;
  const way = ways.get(link?.node ?? '');
  assert.ok(way);
  return { audit, target, address, connection, way };
};

test(
  'a stream goes around a link that falls silent, to the same agent, and reaches the target once',
  DEADLINE,
  async (t) => {
    const { audit, target, address, way } = await startRig(t);
    assert.equal(await askOnce(t, address, 'before'), 'before');
    way.freeze();
    const asks = ['one', 'two', 'three'].map((text) => askOnce(t, address, text));
    assert.deepEqual(await Promise.all(asks), ['one', 'two', 'three']);
    const attempts = audit.events.filter(({ type }) => type === 'stream.decision');
    assert.deepEqual(
      attempts.map(({ subject }) => subject.attempt),
      [1, 2, 2, 2],
    );
    // Later ones do not try the silent link at all.
    assert.equal(await askOnce(t, address, 'later'), 'later');
    assert.equal(audit.events.filter(({ type }) => type === 'stream.decision').at(-1)?.subject.attempt, 1);
    // What waited in the silent link arrives now, before anything else over it, and is refused: its ids have been served.
    way.thaw();
    const held: Socket[] = [];
    await eventually('the link that was silent carries streams again', async () => {
      held.push(...(await holdStreams(t, address, 1)));
      const decisions = audit.events.filter(({ type }) => type === 'stream.decision');
      return decisions.at(-1)?.subject.link_id === attempts[0]?.subject.link_id ? true : undefined;
    });
    assert.equal(target.sockets.length, 5 + held.length);
    for (const socket of held) {
      const end = readToEnd(socket);
      socket.end();
      assert.equal((await end).how, 'fin');
    }
  },
);

test(
  'a stream whose OPEN did arrive over the silent link is not opened a second time',
  DEADLINE,
  async (t) => {
    const { audit, target, address, connection, way } = await startRig(t);
    way.freeze('back');
    const socket = dial(t, address);
    const end = readToEnd(socket);
    socket.end('transfer 100');
    assert.equal((await end).how, 'ECONNRESET');
    assert.equal((await connection()).failures[0]?.reason, 'protocol_error');
    assert.equal(target.sockets.length, 1);
    assert.equal(audit.events.filter(({ type }) => type === 'stream.decision').length, 1);
  },
);
