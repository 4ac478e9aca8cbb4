import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Fence } from '../../src/relay/fence.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  closeAll,
  credential,
  openLink,
  openSide,
  startEnds,
  startRelayNode,
  TestLogin,
} from './relay-fixture.ts';

const SECOND_MS = 1_000;

test('a fence admits below fence_after and cuts from cut_after', () => {
  const clock = new ManualClock();
  let heard = Number.NEGATIVE_INFINITY;
  const fence = new Fence({ clock, lastHeardMonotonicMs: () => heard });
  assert.equal(fence.admits, false, 'a node that never heard its database admits nothing');
  assert.equal(fence.cuts, false);
  heard = 0;
  clock.advance(14 * SECOND_MS);
  assert.equal(fence.admits, true);
  clock.advance(6 * SECOND_MS);
  assert.deepEqual([fence.admits, fence.cuts], [false, false]);
  clock.advance(281 * SECOND_MS);
  assert.deepEqual([fence.admits, fence.cuts], [false, true]);
  const never = new Fence({ clock, lastHeardMonotonicMs: () => 0, cutAfterMs: 'never' });
  clock.advance(1e9);
  assert.equal(never.cuts, false);
});

test('control database away: 14 s nothing changes, at 20 s no new link, at 301 s links are cut', async () => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ clock });
  relay.control.heardAt = () => 0;
  const ends = await startEnds(relay);
  const { agentPeer, gatewayPeer, offer } = await openLink(relay, ends);
  const request = { cred: ends.cred, connection: 'db', spki: ends.gatewayCertificate.spki, exclude: [] };
  agentPeer.duplex.on('error', () => undefined);
  gatewayPeer.duplex.on('error', () => undefined);
  const echo = async (text: string): Promise<void> => {
    gatewayPeer.duplex.write(text);
    const [bytes] = (await once(agentPeer.duplex.resume(), 'data')) as [Buffer];
    assert.equal(bytes.toString(), text);
  };

  clock.advance(14 * SECOND_MS);
  await openLink(relay, ends);
  await echo('at 14 s');

  clock.advance(6 * SECOND_MS);
  const refusal = await ends.gateway.login.requestLink(request);
  assert.ok('refused' in refusal);
  assert.equal(refusal.code, 'node_fenced');
  const late = new TestLogin(relay.config, 'gateway', 'gateway-2', [credential('k_send', 'db')]);
  late.login.start();
  const down = await late.until('onDown');
  assert.equal(down.status, 503);
  assert.equal(down.code, 'node_fenced');
  await ends.agent.until('onNodeHealth', (healthy) => !healthy);
  await echo('at 20 s the joined link goes on');

  for (let seconds = 20; seconds < 290; seconds += 30) {
    clock.advance(30 * SECOND_MS);
    await echo(`goes on after ${seconds} s`);
  }
  clock.advance(9 * SECOND_MS);
  await echo('at 299 s too');
  clock.advance(2 * SECOND_MS);
  const closed = await ends.gateway.until('onLinkClosed', ({ link_id }) => link_id === offer.link_id);
  assert.equal(closed.reason, 'node_fenced');
  assert.equal(relay.node.live.links().length, 0);
  await closeAll(relay, ends.agent, ends.gateway, late);
});

test('a link is not cut while its agent hears a healthy node', async () => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ clock });
  relay.control.heardAt = () => 0;
  const ends = await startEnds(relay);
  const { agentPeer, gatewayPeer } = await openLink(relay, ends);
  agentPeer.duplex.on('error', () => undefined);
  gatewayPeer.duplex.on('error', () => undefined);
  for (let seconds = 0; seconds < 295; seconds += 5) {
    clock.advance(5 * SECOND_MS);
    gatewayPeer.duplex.write('ping');
    await once(agentPeer.duplex.resume(), 'data');
  }
  ends.agent.login.reportHealth({ healthy_nodes: ['other.test'] });
  await relay.node.live.streams();
  clock.advance(10 * SECOND_MS);
  assert.equal(relay.node.live.links()[0]?.state, 'joined', 'the other node vouches for it');
  clock.advance(30 * SECOND_MS);
  assert.equal(relay.node.live.links().length, 0, 'what it heard is too old by now');
  await closeAll(relay, ends.agent, ends.gateway);
});

test('a token offered before the fence is refused when it comes after', async () => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ clock, fenceAfterMs: 10 * SECOND_MS });
  relay.control.heardAt = () => 0;
  const ends = await startEnds(relay);
  clock.advance(9 * SECOND_MS);
  const request = { cred: ends.cred, connection: 'db', spki: ends.gatewayCertificate.spki, exclude: [] };
  const offer = await ends.gateway.login.requestLink(request);
  assert.ok(!('refused' in offer));
  const agentOffer = await ends.agent.until('onOffer');
  clock.advance(2 * SECOND_MS);
  const own = { name: 'agent-1', instance: ends.agent.instance };
  await assert.rejects(openSide('agent', relay, agentOffer, ends.agentCertificate, own));
  const closed = await ends.gateway.until('onLinkClosed', ({ link_id }) => link_id === offer.link_id);
  assert.equal(closed.reason, 'node_fenced');
  await closeAll(relay, ends.agent, ends.gateway);
});
