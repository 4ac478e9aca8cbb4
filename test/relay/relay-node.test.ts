import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { closeAll, openLink, startEnds, startRelayNode } from './relay-fixture.ts';

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
