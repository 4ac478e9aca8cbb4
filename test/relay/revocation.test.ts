import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { createLinkCertificate, systemClock } from '../../src/runtime/index.ts';
import {
  closeAll,
  credential,
  openLink,
  openSide,
  startEnds,
  startRelayNode,
  TestLogin,
} from './relay-fixture.ts';

const ignoreErrors = (...peers: { duplex: { on(event: 'error', call: () => void): unknown } }[]): void => {
  for (const { duplex } of peers) duplex.on('error', () => undefined);
};

test('a revoked key loses its links in the tick of the revocation, the other key nothing', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const revoked = await openLink(relay, ends);
  const other = new TestLogin(relay.config, 'gateway', 'gateway-2', [credential('k_send2', 'db')]);
  other.login.start();
  const { cred } = await other.until('onAttached');
  const offer = await other.login.requestLink({
    cred,
    connection: 'db',
    spki: ends.gatewayCertificate.spki,
    exclude: [],
  });
  assert.ok(!('refused' in offer));
  const agentOffer = await ends.agent.until('onOffer', ({ link_id }) => link_id === offer.link_id);
  const [gatewayPeer, agentPeer] = await Promise.all([
    openSide('gateway', relay, offer, ends.gatewayCertificate, {
      name: 'gateway-2',
      instance: other.instance,
    }),
    openSide('agent', relay, agentOffer, ends.agentCertificate, {
      name: 'agent-1',
      instance: ends.agent.instance,
    }),
  ]);
  ignoreErrors(revoked.agentPeer, revoked.gatewayPeer);
  const ended = Promise.all([
    once(revoked.agentPeer.raw, 'close'),
    once(revoked.gatewayPeer.raw, 'close'),
    ends.gateway.until('onRevoked'),
    ends.agent.until('onRevoked'),
    ends.agent.until('onLinkClosed', ({ link_id }) => link_id === revoked.offer.link_id),
    ends.gateway.until('onDown'),
  ]);
  revoked.agentPeer.duplex.resume();
  revoked.gatewayPeer.duplex.resume();

  relay.control.revoke('k_send');
  assert.deepEqual(
    relay.node.live.links().map(({ link_id }) => link_id),
    [offer.link_id],
    'gone before the call returned',
  );
  assert.equal(relay.control.acknowledged[0]?.ack.links, 1);
  const [, , notice, , closed] = await ended;
  assert.equal(notice.reason, 'key_revoked');
  assert.equal(closed.reason, 'key_revoked');
  const event = await relay.audit.until(({ type }) => type === 'revocation.enforced');
  assert.deepEqual(event.data, { ...event.data, revocation_id: 'r-k_send', links: 1, streams: 3 });
  const last = relay.control.acknowledged.at(-1)?.ack;
  assert.equal(last?.streams, 3);
  assert.deepEqual(last.pendingAgents, []);

  gatewayPeer.duplex.write('still here');
  const [bytes] = (await once(agentPeer.duplex.resume(), 'data')) as [Buffer];
  assert.equal(bytes.toString(), 'still here');
  await closeAll(relay, ends.agent, ends.gateway, other);
});

test('the carriers of a revoked key are reset, with data in flight behind slow readers', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const { agentPeer, gatewayPeer } = await openLink(relay, ends);
  // The agent never reads: everything on the way to it piles up in kernels and in the relay.
  const block = Buffer.alloc(1024 * 1024);
  let accepted = 0;
  while (accepted < 64 && gatewayPeer.duplex.write(block)) accepted += 1;
  for (let index = 0; index < 16; index += 1) gatewayPeer.duplex.write(block);
  const reset = new Promise<NodeJS.ErrnoException>((resolve) => gatewayPeer.duplex.once('error', resolve));
  const agentReset = new Promise<NodeJS.ErrnoException>((resolve) => agentPeer.duplex.once('error', resolve));
  ignoreErrors(agentPeer, gatewayPeer);
  relay.control.revoke('k_listen');
  gatewayPeer.duplex.resume();
  agentPeer.duplex.resume();
  const codes = [(await reset).code, (await agentReset).code];
  assert.ok(
    codes.every((code) => code === 'ECONNRESET' || code === 'EPIPE'),
    codes.join(),
  );
  assert.ok(codes.includes('ECONNRESET'));
  await closeAll(relay, ends.agent, ends.gateway);
});

test("a revoked Listen key takes its agent's links; another agent's link and offers go on", async () => {
  const relay = await startRelayNode();
  relay.control.addKey('k_listen2', 'db', ['Listen']);
  const ends = await startEnds(relay);
  const ended = await openLink(relay, ends);
  const second = new TestLogin(relay.config, 'agent', 'agent-2', [credential('k_listen2', 'db')]);
  const certificate = await createLinkCertificate('agent-2', systemClock);
  second.login.start();
  await second.until('onAttached');
  await second.login.publish('db', 'h-k_listen2', certificate.spki);
  const request = { cred: ends.cred, connection: 'db', spki: ends.gatewayCertificate.spki };
  const offer = await ends.gateway.login.requestLink({ ...request, exclude: [ends.agent.instance] });
  assert.ok(!('refused' in offer));
  const agentOffer = await second.until('onOffer', ({ link_id }) => link_id === offer.link_id);
  const own = { name: 'agent-2', instance: second.instance };
  const gatewayOwn = { name: 'gateway-1', instance: ends.gateway.instance };
  const [gatewayPeer, agentPeer] = await Promise.all([
    openSide('gateway', relay, offer, ends.gatewayCertificate, gatewayOwn),
    openSide('agent', relay, agentOffer, certificate, own),
  ]);
  ignoreErrors(ended.agentPeer, ended.gatewayPeer);
  const closed = Promise.all([
    once(ended.agentPeer.raw, 'close'),
    once(ended.gatewayPeer.raw, 'close'),
    ends.agent.until('onRevoked'),
  ]);
  ended.agentPeer.duplex.resume();
  ended.gatewayPeer.duplex.resume();

  relay.control.revoke('k_listen');
  assert.deepEqual(
    relay.node.live.links().map(({ link_id }) => link_id),
    [offer.link_id],
  );
  await closed;
  agentPeer.duplex.write('still here');
  const [chunk] = (await once(gatewayPeer.duplex.resume(), 'data')) as [Buffer];
  assert.equal(chunk.toString(), 'still here');
  const next = await ends.gateway.login.requestLink({ ...request, exclude: [] });
  assert.ok(!('refused' in next));
  assert.equal(next.peer.instance, second.instance, 'only the other agent is offered');
  await closeAll(relay, ends.agent, ends.gateway, second);
});

test('who asks for a link on a key that is gone is told of the key, and why knows whose it was', async () => {
  const relay = await startRelayNode();
  relay.control.addConnection('web');
  relay.control.addKey('k_web', 'web', ['Send']);
  const login = new TestLogin(relay.config, 'gateway', 'gateway-2', [
    credential('k_send', 'db'),
    credential('k_web', 'web'),
  ]);
  login.login.start();
  const { cred } = await login.until('onAttached', ({ key_id }) => key_id === 'k_send');
  await login.until('onAttached', ({ key_id }) => key_id === 'k_web');
  relay.control.revoke('k_send');
  await login.until('onCredentialRefused');
  const { spki } = await createLinkCertificate('gateway-2', systemClock);
  const refused = await login.login.requestLink({ cred, connection: 'db', spki, exclude: [] });
  assert.ok('refused' in refused);
  assert.deepEqual([refused.code, refused.detail], ['key_revoked', 'key k_send is revoked']);
  const [failure] = relay.node.live.lastFailures('db');
  assert.deepEqual([failure?.code, failure?.principal], ['key_revoked', 'rule-k_send']);
  await closeAll(relay, login);
});

test('a revocation that falls into a handshake, an attach or a joining wins', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  relay.control.addKey('k_late', 'db', ['Send']);
  let open = (): void => undefined;
  relay.control.gate = new Promise((resolve) => {
    open = resolve;
  });
  const late = new TestLogin(relay.config, 'gateway', 'gateway-2', [credential('k_late', 'db')]);
  const verified = relay.control.verifying.length;
  late.login.start();
  while (relay.control.verifying.length === verified) await new Promise((resolve) => setImmediate(resolve));
  relay.control.revoke('k_late');
  open();
  const refused = await late.until('onCredentialRefused');
  assert.deepEqual([refused.status, refused.code], [401, 'key_revoked']);
  assert.equal(relay.control.verifying.length, verified + 1, 'by the handshake that was under way itself');
  assert.ok(!relay.node.live.logins().some(({ name }) => name === 'gateway-2'));
  relay.control.gate = undefined;

  const request = { cred: ends.cred, connection: 'db', spki: ends.gatewayCertificate.spki, exclude: [] };
  const offer = await ends.gateway.login.requestLink(request);
  assert.ok(!('refused' in offer));
  const agentOffer = await ends.agent.until('onOffer');
  // As if the cut at the revocation had missed it: only the check of the joining tick is left.
  relay.control.revoked.set('k_send', {
    revocation_id: 'r-join',
    key_id: 'k_send',
    agent: null,
    instance: null,
    connection_id: null,
    kind: 'key_revoked',
    reason: '',
  });
  const own = { name: 'agent-1', instance: ends.agent.instance };
  await assert.rejects(openSide('agent', relay, agentOffer, ends.agentCertificate, own));
  const closed = await ends.agent.until('onLinkClosed', ({ link_id }) => link_id === offer.link_id);
  assert.equal(closed.reason, 'key_revoked');
  const again = await ends.gateway.login.requestLink(request);
  assert.ok('refused' in again);
  assert.equal(again.code, 'key_revoked');
  await closeAll(relay, ends.agent, ends.gateway, late);
});

test('a deleted connection loses its links and its credentials', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const { offer, agentPeer, gatewayPeer } = await openLink(relay, ends);
  ignoreErrors(agentPeer, gatewayPeer);
  relay.control.change({ name: 'db', id: 'id-db', change: 'gone' });
  const closed = await ends.agent.until('onLinkClosed', ({ link_id }) => link_id === offer.link_id);
  assert.equal(closed.reason, 'connection_removed');
  assert.equal(await ends.agent.until('onConnectionGone'), 'db');
  assert.deepEqual(
    relay.node.live.logins().flatMap(({ credentials, published }) => [...credentials, ...published]),
    [],
  );
  await closeAll(relay, ends.agent, ends.gateway);
});

test('an agent that was away when a key was revoked is told at its next login', async () => {
  const relay = await startRelayNode();
  relay.control.addKey('k_gone', 'db', ['Send']);
  relay.control.revoke('k_gone');
  const ends = await startEnds(relay);
  const notice = await ends.agent.until('onRevoked', ({ key_id }) => key_id === 'k_gone');
  assert.deepEqual(notice, {
    key_id: 'k_gone',
    reason: 'key_revoked',
    revocation_id: 'r-k_gone',
    again: true,
  });
  assert.ok(!ends.gateway.heard.some(({ name }) => name === 'onRevoked'));
  await closeAll(relay, ends.agent, ends.gateway);
});

test('an agent that lost its control link before it answered stays pending until it is back', async () => {
  const relay = await startRelayNode();
  const away: TestLogin = new TestLogin(relay.config, 'agent', 'agent-1', [credential('k_listen', 'db')], {
    handlers: {
      onRevoked: () => {
        void away.login.close();
        return undefined;
      },
    },
  });
  away.login.start();
  await away.until('onAttached');
  relay.control.addKey('k_late', 'db', ['Send']);
  const settled = new Promise<void>((resolve) => {
    relay.control.onAcknowledge = () => {
      if (relay.control.acknowledged.length === 2) resolve();
    };
  });
  relay.control.revoke('k_late');
  await settled;
  assert.deepEqual(
    relay.control.acknowledged.at(-1)?.ack.pendingAgents?.map(({ name }) => name),
    ['agent-1'],
  );
  const cleared = new Promise<void>((resolve) => {
    relay.control.onAcknowledge = (_id, ack) => {
      if (ack.pendingAgents?.length === 0) resolve();
    };
  });
  const back = new TestLogin(relay.config, 'agent', 'agent-1', [credential('k_listen', 'db')], {
    instance: away.instance,
  });
  back.login.start();
  await cleared;
  assert.equal(relay.control.acknowledged.at(-1)?.ack.streams, 3);
  await closeAll(relay, back);
});
