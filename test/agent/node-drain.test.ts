import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { type GoAway, openDataLink, Session } from '../../src/protocol/index.ts';
import { createLinkCertificate, systemClock } from '../../src/runtime/index.ts';
import { credential, openSide, TestLogin } from '../relay/relay-fixture.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, dial, echo, readToEnd } from '../support/sockets.ts';
import {
  CONNECTION,
  startTestAgent,
  startTestGateway,
  startTestRelay,
  statusOf,
  untilReady,
} from './ends-fixture.ts';
import { MemoryAudit } from './memory-audit.ts';

const DEADLINE = { timeout: 60_000 };
const DRAIN_MS = 40_000;

interface Shown {
  readonly links: { readonly node: string; readonly state: string }[];
}

test(
  'a node that stops: streams go on, new ones lack nothing, and it ends with the last stream',
  DEADLINE,
  async (t) => {
    const audit = new MemoryAudit();
    const target = await echo(t);
    const first = await startTestRelay(t, target.port);
    const second = await startTestRelay(t, target.port, 'localhost');
    const relays = [first, second];
    const { agent } = await startTestAgent(t, first, target.port, { relays, deps: { audit } });
    await eventually('published at both nodes', async () => {
      const { connections } = (await statusOf(agent)) as { connections: { offered: boolean }[] };
      return connections.filter(({ offered }) => offered).length === 2 ? true : undefined;
    });
    const { gateway, listen: address } = await startTestGateway(t, first, { relays });
    await eventually('logged in at both nodes', async () => {
      const { logins } = (await statusOf(gateway)) as { logins: { state: string }[] };
      return logins.every(({ state }) => state === 'up') ? true : undefined;
    });
    await untilReady(gateway);
    const held = dial(t, address);
    held.write('x');
    await once(held, 'data');
    const links = async (): Promise<string[]> => {
      const { connections } = (await statusOf(gateway)) as { connections: Shown[] };
      return (connections[0]?.links ?? []).map(({ node, state }) => `${node} ${state}`);
    };
    const [before = ''] = await links();
    const [stopping, staying] = before.startsWith('localhost') ? [second, first] : [first, second];
    const drained = stopping.node.drain(DRAIN_MS);
    for (let asked = 0; asked < 30; asked += 1)
      assert.equal(await askOnce(t, address, `${asked}`), `${asked}`);
    assert.deepEqual(
      (await links()).sort(),
      [`${stopping.config.host} ending`, `${staying.config.host} up`].sort(),
    );
    const { connections } = (await statusOf(agent)) as {
      connections: { node: string; state: string; offered: boolean }[];
    };
    for (const { node, state, offered: isOffered } of connections) {
      assert.deepEqual(
        { state, isOffered },
        { state: 'published', isOffered: node !== stopping.config.host },
      );
    }
    const end = readToEnd(held);
    held.end('y');
    assert.equal((await end).bytes.toString(), 'y');
    await drained;
    const closed = await audit.until('link.closed');
    assert.equal(closed.data.reason, 'relay_shutdown');
  },
);

test('the agent leaves the links of a node that stops when the gateway has not', DEADLINE, async (t) => {
  const target = await echo(t);
  const relay = await startTestRelay(t, target.port);
  const { agent } = await startTestAgent(t, relay, target.port, { deps: { audit: new MemoryAudit() } });
  await untilReady(agent);
  const gateway = new TestLogin(relay.config, 'gateway', 'gateway-1', [credential('k_send', CONNECTION)]);
  gateway.login.start();
  const { cred } = await gateway.until('onAttached');
  const certificate = await createLinkCertificate('gateway-1', systemClock);
  const offer = await gateway.login.requestLink({
    cred,
    connection: CONNECTION,
    spki: certificate.spki,
    exclude: [],
  });
  assert.ok(!('refused' in offer));
  const own = { name: 'gateway-1', instance: gateway.instance };
  const session = new Session(await openSide('gateway', relay, offer, certificate, own), {
    clock: systemClock,
  });
  const left = new Promise<GoAway>((resolve) => session.onGoAway(resolve));
  const ended = new Promise((resolve) => session.onEnd(resolve));
  const drained = relay.node.drain(1_000);
  const { code } = await left;
  assert.equal(code, 'relay_shutdown');
  await ended;
  await drained;
});

test('streams on a link that comes up while its agent drains go to another agent', DEADLINE, async (t) => {
  const target = await echo(t);
  const relay = await startTestRelay(t, target.port);
  let arrived: () => void = () => undefined;
  let go: () => void = () => undefined;
  const isUp = new Promise<void>((resolve) => (arrived = resolve));
  const gate = new Promise<void>((resolve) => (go = resolve));
  const first = await startTestAgent(t, relay, target.port, {
    name: 'agent-1',
    deps: {
      audit: new MemoryAudit(),
      // The gateway has the link from the agent's HELLO on; the agent takes it up later.
      openLink: async (options) => {
        const peer = await openDataLink(options);
        arrived();
        await gate;
        return peer;
      },
    },
  });
  await untilReady(first.agent);
  const { gateway, listen: address } = await startTestGateway(t, relay);
  await untilReady(gateway);
  await isUp;
  const second = await startTestAgent(t, relay, target.port, {
    name: 'agent-2',
    deps: { audit: new MemoryAudit() },
  });
  await untilReady(second.agent);
  const socket = dial(t, address);
  const end = readToEnd(socket);
  socket.end('early');
  await eventually('the stream is under way', async () => {
    const { streams } = (await statusOf(gateway)) as { streams: { open: number } };
    return streams.open === 1 ? true : undefined;
  });
  await first.agent.drain();
  go();
  const { bytes, how } = await end;
  assert.deepEqual([how, bytes.toString()], ['fin', 'early']);
});
