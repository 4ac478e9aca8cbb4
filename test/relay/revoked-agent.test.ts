import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { createLinkCertificate, systemClock } from '../../src/runtime/index.ts';
import {
  credential,
  type Ends,
  openLink,
  openSide,
  startEnds,
  startRelayNode,
  TestLogin,
} from './relay-fixture.ts';

const request = (ends: Ends) => ({
  cred: ends.cred,
  connection: 'db',
  spki: ends.gatewayCertificate.spki,
  exclude: [],
});

/** Ends like `startEnds`, and a second agent that publishes the same connection on the same key. */
const startTwoAgents = async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const mine = await openLink(relay, ends);
  for (const { duplex } of [mine.gatewayPeer, mine.agentPeer]) {
    duplex.on('error', () => undefined);
    duplex.resume();
  }
  const certificate = await createLinkCertificate('agent-2', systemClock);
  const other = new TestLogin(relay.config, 'agent', 'agent-2', [credential('k_listen', 'db')]);
  other.login.start();
  await other.until('onAttached');
  await other.login.publish('db', 'h-k_listen', certificate.spki);
  return { relay, ends, mine, other, certificate };
};

const namesOf = (relay: Awaited<ReturnType<typeof startRelayNode>>): string[] =>
  relay.node.live
    .logins()
    .flatMap(({ name, role, credentials }) => (role === 'agent' && credentials.length > 0 ? [name] : []));

test('a revoked agent loses logins and links in the tick of the revocation, another agent on its key nothing', async () => {
  const { relay, ends, mine, other } = await startTwoAgents();
  const ended = Promise.all([
    once(mine.agentPeer.raw, 'close'),
    once(mine.gatewayPeer.raw, 'close'),
    ends.gateway.until('onRevoked', ({ agent }) => agent === 'agent-1'),
    ends.agent.until('onRevoked', ({ agent, key_id }) => agent === 'agent-1' && key_id === ''),
    ends.agent.until('onDown'),
  ]);
  relay.control.end({ agent: 'agent-1' }, 'identity_revoked');
  assert.deepEqual(relay.node.live.links(), [], 'gone before the call returned');
  assert.deepEqual(namesOf(relay), ['agent-2'], 'nothing of it is usable any more');
  await ended;
  const closed = await ends.gateway.until('onLinkClosed');
  assert.equal(closed.reason, 'identity_revoked');
  const offer = await ends.gateway.login.requestLink(request(ends));
  assert.ok(!('refused' in offer));
  assert.equal(offer.agent, 'agent-2', 'the key that both use is as good as before');
  assert.ok(!other.heard.some(({ name }) => name === 'onRevoked'), 'it is none of its business');
  const event = await relay.audit.until(({ type }) => type === 'revocation.enforced');
  assert.deepEqual([event.subject.agent, event.subject.key_id], ['agent-1', undefined]);
  const { ack } = relay.control.acknowledged.at(-1) ?? assert.fail('acknowledged');
  assert.deepEqual([ack.links, ack.streams, ack.pendingAgents], [1, 3, []]);
});

test('from then on the name is refused whichever key it shows, as final; a gateway of the name is not', async () => {
  const { relay, ends } = await startTwoAgents();
  relay.control.addKey('k_listen2', 'db', ['Listen']);
  relay.control.end({ agent: 'agent-1' }, 'identity_revoked');
  const down = await ends.agent.until('onDown', ({ status }) => status === 401);
  assert.equal(down.code, 'identity_revoked');
  assert.match(down.detail, /agent agent-1 is revoked/);
  const again = new TestLogin(relay.config, 'agent', 'agent-1', [credential('k_listen2', 'db')]);
  again.login.start();
  const refused = await again.until('onDown');
  assert.deepEqual([refused.status, refused.code], [401, 'identity_revoked']);
  assert.ok(refused.retryInMs >= 10_000, 'a refusal in the hello is final like one in the handshake');
  const event = await relay.audit.until(({ type }) => type === 'auth.failed');
  assert.equal((event.data as { code: string }).code, 'identity_revoked');
  const gateway = new TestLogin(relay.config, 'gateway', 'agent-1', [credential('k_send2', 'db')]);
  gateway.login.start();
  await gateway.until('onAttached');
  // What the documentation says of a name: it is a claim, and the key lives.
  const renamed = new TestLogin(relay.config, 'agent', 'agent-9', [credential('k_listen2', 'db')]);
  renamed.login.start();
  await renamed.until('onAttached');
});

test('one installation is revoked and another of the same name is not', async () => {
  const { relay, ends } = await startTwoAgents();
  const twin = new TestLogin(relay.config, 'agent', 'agent-1', [credential('k_listen', 'db')]);
  twin.login.start();
  await twin.until('onAttached');
  relay.control.end({ agent: 'agent-1', instance: ends.agent.instance }, 'identity_revoked');
  assert.deepEqual(relay.node.live.links(), []);
  const down = await ends.agent.until('onDown', ({ status }) => status === 401);
  assert.match(down.detail, new RegExp(`agent agent-1, instance ${ends.agent.instance}, is revoked`));
  assert.deepEqual(namesOf(relay).sort(), ['agent-1', 'agent-2']);
  assert.ok(!twin.heard.some(({ name }) => name === 'onRevoked' || name === 'onDown'));
});

test('an agent that does not answer its own revocation is not pending for ever', async () => {
  const { relay, ends } = await startTwoAgents();
  const silent = new TestLogin(relay.config, 'agent', 'agent-7', [credential('k_listen', 'db')], {
    handlers: {
      onRevoked: () => null,
    },
  });
  silent.login.start();
  await silent.until('onAttached');
  relay.control.end({ agent: 'agent-7' }, 'identity_revoked');
  assert.deepEqual(
    relay.control.acknowledged.at(-1)?.ack.pendingAgents?.map(({ name }) => name),
    ['agent-7'],
  );
  await relay.audit.until(({ type }) => type === 'revocation.enforced');
  const { ack } = relay.control.acknowledged.at(-1) ?? assert.fail('acknowledged');
  assert.deepEqual([ack.streams, ack.pendingAgents], [null, []]);
  assert.ok(ends.gateway.heard.some(({ name }) => name === 'onRevoked'));
});

test('an agent that is revoked while an offer is out is not joined', async () => {
  const { relay, ends } = await startTwoAgents();
  const offer = await ends.gateway.login.requestLink({ ...request(ends), want: ends.agent.instance });
  assert.ok(!('refused' in offer));
  const agentOffer = await ends.agent.until('onOffer', ({ link_id }) => link_id === offer.link_id);
  // As if the cut at the revocation had missed it: only the check of the joining tick is left.
  const before = relay.control.revoked;
  before.set('agent/agent-1', {
    revocation_id: 'r-join',
    key_id: null,
    agent: 'agent-1',
    instance: null,
    connection_id: null,
    kind: 'identity_revoked',
    reason: '',
  });
  const own = { name: 'agent-1', instance: ends.agent.instance };
  await assert.rejects(openSide('agent', relay, agentOffer, ends.agentCertificate, own));
  const closed = await ends.gateway.until('onLinkClosed', ({ link_id }) => link_id === offer.link_id);
  assert.equal(closed.reason, 'identity_revoked');
});

test('a removed connection loses its links whatever key they stand on, and its id is refused', async () => {
  const { relay, ends, mine } = await startTwoAgents();
  relay.control.end({ connection_id: 'id-db' }, 'connection_removed');
  assert.deepEqual(relay.node.live.links(), []);
  const notice = await ends.agent.until('onRevoked');
  assert.deepEqual([notice.connection_id, notice.key_id, notice.agent], ['id-db', '', undefined]);
  const closed = await ends.gateway.until('onLinkClosed', ({ link_id }) => link_id === mine.offer.link_id);
  assert.equal(closed.reason, 'connection_removed');
  const late = new TestLogin(relay.config, 'agent', 'agent-3', [credential('k_listen', 'db')]);
  late.login.start();
  const refused = await late.until('onDown');
  assert.deepEqual([refused.status, refused.code], [404, 'connection_unknown']);
});

test('a revoked agent attaches nothing in the second that its control link still has', async () => {
  const { relay } = await startTwoAgents();
  relay.control.addKey('k_listen2', 'db', ['Listen']);
  const agent = new TestLogin(relay.config, 'agent', 'agent-8', [credential('k_listen', 'db')], {
    handlers: { onRevoked: () => null },
  });
  agent.login.start();
  await agent.until('onAttached');
  relay.control.end({ agent: 'agent-8' }, 'identity_revoked');
  agent.login.attach(credential('k_listen2', 'db'));
  const refused = await agent.until('onCredentialRefused', ({ handle }) => handle === 'h-k_listen2');
  assert.deepEqual([refused.status, refused.code], [401, 'identity_revoked']);
});
