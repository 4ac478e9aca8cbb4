import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { ManualClock } from '../support/manual-clock.ts';
import { isAppError } from '../../src/runtime/index.ts';
import { closeAll, credential, openLink, startEnds, startRelayNode, TestLogin } from './relay-fixture.ts';

test('a gateway and an agent meet on a node and talk end to end', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const { offer, agentOffer, gatewayPeer, agentPeer } = await openLink(relay, ends);

  assert.equal(agentOffer.link_id, offer.link_id);
  assert.notEqual(agentOffer.token, offer.token);
  assert.equal(agentOffer.sender.id, 'k_send');
  assert.equal(agentOffer.listener.id, 'k_listen');
  assert.equal(agentOffer.source_address, '127.0.0.1');
  assert.equal(offer.source_address, undefined);
  assert.equal(gatewayPeer.peerHello.name, 'agent-1');
  assert.equal(agentPeer.peerHello.name, 'gateway-1');
  assert.equal(agentPeer.peerSpki, ends.gatewayCertificate.spki);

  gatewayPeer.duplex.write('ping');
  const [up] = (await once(agentPeer.duplex.resume(), 'data')) as [Buffer];
  assert.equal(up.toString(), 'ping');
  agentPeer.duplex.write('pong');
  const [down] = (await once(gatewayPeer.duplex.resume(), 'data')) as [Buffer];
  assert.equal(down.toString(), 'pong');
  assert.equal(relay.node.live.links()[0]?.state, 'joined');

  gatewayPeer.duplex.end();
  await once(agentPeer.duplex, 'end');
  agentPeer.duplex.end();
  const closed = await relay.audit.until(({ type }) => type === 'link.closed');
  const { up: bytesUp, down: bytesDown } = agentPeer.carrierBytes();
  assert.deepEqual(closed.data, { ...closed.data, bytes_up: bytesUp, bytes_down: bytesDown });
  assert.equal(closed.subject.link_id, offer.link_id);
  await ends.gateway.until('onLinkClosed', ({ link_id }) => link_id === offer.link_id);
  await closeAll(relay, ends.agent, ends.gateway);
});

test('an offer whose request was given up is put back: no token and no place stays reserved', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const clock = new ManualClock();
  const impatient = new TestLogin(relay.config, 'gateway', 'gateway-2', [credential('k_send2', 'db')], {
    clock,
  });
  impatient.login.start();
  const { cred } = await impatient.until('onAttached');
  const { spki } = ends.gatewayCertificate;
  const asked = impatient.login.requestLink({ cred, connection: 'db', spki, exclude: [] });
  // The answer cannot be there before the next turn of the loop.
  clock.advance(10_000);
  await assert.rejects(asked, (error) => isAppError(error, 'ERR_CONTROL_LINK_TIMEOUT'));
  const { link_id } = await ends.agent.until('onOffer');
  const closed = await ends.agent.until('onLinkClosed', (notice) => notice.link_id === link_id);
  assert.equal(closed.reason, 'link_failed');
  assert.deepEqual(relay.node.live.links(), []);
  await closeAll(relay, ends.agent, ends.gateway, impatient);
});
