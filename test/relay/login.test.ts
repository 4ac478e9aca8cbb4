import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { type CredentialSource, NodeLogin, type StreamInfo } from '../../src/protocol/index.ts';
import { LOGIN_KEPT_MS } from '../../src/relay/login.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  CA,
  closeAll,
  credential,
  NAMESPACE,
  openLink,
  startEnds,
  startRelayNode,
  TestLogin,
} from './relay-fixture.ts';

const stream = (id: string): StreamInfo => ({
  stream_id: id,
  link_id: 'l',
  connection: 'db',
  principal: 'p',
  key_id: 'k',
  agent: 'agent-1',
  gateway: 'gateway-1',
  target: 'db.test:5432',
  opened_at: '2026-01-01T00:00:00.000Z',
  bytes_up: 1,
  bytes_down: 2,
  policy_rule: null,
});

test('a login holds several credentials and hears of its connections', async () => {
  const relay = await startRelayNode();
  relay.control.addConnection('web');
  relay.control.addKey('k_web', 'web', ['Send']);
  const gateway = new TestLogin(relay.config, 'gateway', 'gateway-1', [
    credential('k_wrong', 'db'),
    credential('k_send', 'db'),
    credential('k_web', 'web'),
  ]);
  gateway.login.start();
  const refused = await gateway.until('onCredentialRefused');
  assert.deepEqual([refused.handle, refused.status, refused.code], ['h-k_wrong', 401, 'not_authorized']);
  await gateway.until('onAttached', ({ connection }) => connection === 'web');
  const described = await gateway.until('onConnection', ({ name }) => name === 'web');
  assert.deepEqual(described, { ...described, target: { host: 'db.test', port: 5432 }, id: 'id-web' });
  assert.deepEqual(
    relay.node.live
      .logins()[0]
      ?.credentials.map(({ key_id }) => key_id)
      .sort(),
    ['k_send', 'k_web'],
  );
  await closeAll(relay, gateway);
});

test('401 and 403 wait as long as the backoff ever does, and say why', async () => {
  const relay = await startRelayNode();
  const gateway = new TestLogin(relay.config, 'gateway', 'gateway-1', [credential('k_wrong', 'db')]);
  gateway.login.start();
  const down = await gateway.until('onDown');
  assert.equal(down.status, 401);
  assert.ok(down.retryInMs >= 10_000 && down.retryInMs <= 20_000);
  assert.match(down.detail, /401 not_authorized/);
  assert.deepEqual(gateway.login.state(), { kind: 'connecting', node: '127.0.0.1', down });
  await closeAll(relay, gateway);
  assert.equal(gateway.login.state().kind, 'closed');
});

test('a relay whose certificate is not trusted gets no token', async () => {
  const relay = await startRelayNode();
  const { createAuthority } = await import('../../src/runtime/index.ts');
  const other = await createAuthority('another authority', systemClock);
  const gateway = new TestLogin(relay.config, 'gateway', 'g', [credential('k_send', 'db')], {
    ca: other.certPem,
  });
  gateway.login.start();
  const down = await gateway.until('onDown');
  assert.match(down.detail, /certificate|issuer/);
  assert.equal(relay.control.verifying.length, 0);
  await closeAll(relay, gateway);
});

test('a credential is renewed at 80 % of its life and keeps its key', async () => {
  const relay = await startRelayNode();
  const clock = new ManualClock(systemClock.nowMs());
  const key = relay.control.keys.get('key:k_send');
  assert.ok(key);
  key.expiresAtMs = clock.nowMs() + 100_000;
  const mints: number[] = [];
  const source: CredentialSource = {
    ...credential('k_send', 'db'),
    mint: (nowMs) => {
      mints.push(nowMs);
      return { token: 'key:k_send', expiresAtMs: nowMs + 100_000 };
    },
  };
  let attached = (): void => undefined;
  const isAttached = new Promise<void>((resolve) => {
    attached = resolve;
  });
  const login = new NodeLogin({
    node: relay.config,
    role: 'gateway',
    name: 'gateway-1',
    instance: 'i',
    instanceSecret: 's',
    build: 't',
    namespace: NAMESPACE,
    ca: CA,
    clock,
    logger: silentLogger,
    credentials: [source],
    handlers: { onAttached: attached },
  });
  login.start();
  await isAttached;
  const renewed = relay.audit.until(({ type }) => type === 'login.renewed');
  // In small steps with a round trip each, or the login would take the silence for a dead relay.
  for (let seconds = 0; seconds < 79; seconds += 1) {
    clock.advance(1_000);
    await login.requestLink({ cred: 'none', connection: 'db', spki: '0'.repeat(64), exclude: [] });
  }
  assert.equal(mints.length, 1);
  key.expiresAtMs = clock.nowMs() + 200_000;
  clock.advance(2_000);
  assert.equal((await renewed).subject.key_id, 'k_send');
  assert.equal(mints.length, 2);
  await login.close();
  await closeAll(relay);
});

test('a renewal that a node cannot grant now is tried again, and the credential stays', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const clock = new ManualClock(systemClock.nowMs());
  const key = relay.control.keys.get('key:k_send2');
  assert.ok(key);
  key.expiresAtMs = clock.nowMs() + 25_000;
  const login = new TestLogin(relay.config, 'gateway', 'gateway-2', [credential('k_send2', 'db')], { clock });
  login.login.start();
  const { cred } = await login.until('onAttached');
  const request = { cred, connection: 'db', spki: ends.gatewayCertificate.spki, exclude: [] };
  relay.control.heardAt = () => systemClock.monotonicMs() - 20_000;
  const verified = relay.control.verifying.length;
  clock.advance(20_000);
  // Answered behind the renewal, on the same control link.
  const refusal = await login.login.requestLink(request);
  assert.ok('refused' in refusal && refusal.code === 'node_fenced');
  assert.equal(relay.control.verifying.length, verified, 'a fenced node renews nothing');
  assert.ok(!login.heard.some(({ name }) => name === 'onCredentialRefused'));
  relay.control.heardAt = () => systemClock.monotonicMs();
  clock.advance(20_000);
  await relay.audit.until(({ type }) => type === 'login.renewed');
  assert.ok(!('refused' in (await login.login.requestLink(request))));
  await closeAll(relay, ends.agent, ends.gateway, login);
});

test('a credential that runs out takes its links with it: token_expired', async () => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ clock });
  relay.control.heardAt = () => clock.monotonicMs();
  const key = relay.control.keys.get('key:k_send');
  assert.ok(key);
  key.expiresAtMs = clock.nowMs() + 30_000;
  const ends = await startEnds(relay);
  const { offer, agentPeer, gatewayPeer } = await openLink(relay, ends);
  for (const { duplex } of [agentPeer, gatewayPeer]) duplex.on('error', () => undefined);
  clock.advance(29_000);
  assert.equal(relay.node.live.links().length, 1);
  clock.advance(2_000);
  const closed = await ends.gateway.until('onLinkClosed', ({ link_id }) => link_id === offer.link_id);
  assert.equal(closed.reason, 'token_expired');
  await closeAll(relay, ends.agent, ends.gateway);
});

test('links outlive a lost control link; the same instance takes its login back within 60 s', async () => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ clock });
  relay.control.heardAt = () => clock.monotonicMs();
  const ends = await startEnds(relay);
  const { offer, agentPeer, gatewayPeer } = await openLink(relay, ends);
  const before = relay.node.live.logins().find(({ role }) => role === 'gateway')?.login_id;
  await ends.gateway.login.close();
  const back = new TestLogin(relay.config, 'gateway', 'gateway-1', [credential('k_send', 'db')], {
    instance: ends.gateway.instance,
  });
  back.login.start();
  await back.until('onAttached');
  const logins = relay.node.live.logins().filter(({ role }) => role === 'gateway');
  assert.equal(logins.length, 1);
  assert.notEqual(logins[0]?.login_id, before);
  gatewayPeer.duplex.write('still joined');
  const [bytes] = (await once(agentPeer.duplex.resume(), 'data')) as [Buffer];
  assert.equal(bytes.toString(), 'still joined');
  for (const { duplex } of [agentPeer, gatewayPeer]) duplex.on('error', () => undefined);
  relay.control.revoke('k_listen');
  const closed = await back.until('onLinkClosed', ({ link_id }) => link_id === offer.link_id);
  assert.equal(closed.reason, 'key_revoked', 'the new login hears of the old links');
  await closeAll(relay, ends.agent, back);
});

test('a login that does not come back is forgotten after 60 s', async () => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ clock });
  relay.control.heardAt = () => clock.monotonicMs();
  const ends = await startEnds(relay);
  await ends.gateway.login.close();
  while (relay.node.live.logins().some(({ state, role }) => role === 'gateway' && state === 'up')) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  clock.advance(LOGIN_KEPT_MS - 1_000);
  assert.equal(relay.node.live.logins().length, 2);
  clock.advance(2_000);
  assert.equal(relay.node.live.logins().length, 1);
  const closed = relay.audit.of('login.closed')[0];
  assert.equal((closed?.data as { reason: string }).reason, 'lost');
  await closeAll(relay, ends.agent);
});

test('a relay that stops says goaway, refuses newcomers and waits for links', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const { agentPeer, gatewayPeer } = await openLink(relay, ends);
  const drained = relay.node.drain(30_000);
  assert.equal(await ends.agent.until('onGoAway'), 30_000);
  const request = { cred: ends.cred, connection: 'db', spki: ends.gatewayCertificate.spki, exclude: [] };
  const refusal = await ends.gateway.login.requestLink(request);
  assert.ok('refused' in refusal && refusal.code === 'relay_shutdown');
  assert.deepEqual(relay.node.notReady(), ['node is stopping']);
  gatewayPeer.duplex.end();
  agentPeer.duplex.resume().on('end', () => agentPeer.duplex.end());
  gatewayPeer.duplex.resume();
  await drained;
  await closeAll(relay, ends.agent, ends.gateway);
});

test('streams are asked of the agents, page by page; one is closed by id', async () => {
  const relay = await startRelayNode();
  const all = Array.from({ length: 120 }, (_, index) => stream(`s-${String(index).padStart(4, '0')}`));
  const agent = new TestLogin(relay.config, 'agent', 'agent-1', [credential('k_listen', 'db')], {
    handlers: {
      onStreamsQuery: () => Promise.resolve([...all].reverse()),
      onStreamClose: ({ stream_id, reason }) => stream_id === 's-0007' && reason === 'admin_closed',
    },
  });
  agent.login.start();
  await agent.until('onAttached');
  const listed = await relay.node.live.streams();
  assert.deepEqual(
    listed.map(({ stream_id }) => stream_id),
    all.map(({ stream_id }) => stream_id),
  );
  assert.equal(await relay.node.live.closeStream('s-0007', 'admin_closed'), true);
  assert.equal(await relay.node.live.closeStream('s-none', 'admin_closed'), false);
  await closeAll(relay, agent);
});

test('failures of both ends are merged by stream, and only of connections that the end serves', async () => {
  const relay = await startRelayNode();
  relay.control.addConnection('web');
  const ends = await startEnds(relay);
  const at = '2026-01-01T00:00:00.000Z';
  ends.gateway.login.reportHealth({
    failures: [
      { connection: 'db', stream_id: 's-1', reason: 'policy_denied', at },
      { connection: 'web', stream_id: 's-2', reason: 'policy_denied', at },
    ],
  });
  ends.agent.login.reportHealth({
    failures: [
      {
        connection: 'db',
        stream_id: 's-1',
        reason: 'policy_denied',
        at,
        decision_id: 'd-1',
        reasons: [{ code: 'not_listed', args: { a: 1 } }],
        detail: 'no rule allows db.test:5432',
      },
    ],
  });
  while (relay.node.live.lastFailures('db')[0]?.agent !== 'agent-1') {
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(relay.node.live.lastFailures('db'), [
    {
      at,
      connection: 'db',
      stage: 'stream',
      code: 'policy_denied',
      detail: 'no rule allows db.test:5432',
      stream_id: 's-1',
      decision_id: 'd-1',
      principal: 'rule-k_send',
      gateway: 'gateway-1',
      agent: 'agent-1',
      reasons: ['not_listed'],
    },
  ]);
  assert.deepEqual(relay.node.live.lastFailures('web'), []);
  await closeAll(relay, ends.agent, ends.gateway);
});

test('a request without an agent is refused, and why knows', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const request = { cred: ends.cred, connection: 'db', spki: ends.gatewayCertificate.spki, exclude: [] };
  const excluded = await ends.gateway.login.requestLink({ ...request, exclude: [ends.agent.instance] });
  assert.ok('refused' in excluded && excluded.code === 'no_agent');
  const unwanted = await ends.gateway.login.requestLink({ ...request, want: 'somebody-else' });
  assert.ok('refused' in unwanted && unwanted.code === 'no_agent');
  assert.equal(unwanted.detail, 'no other agent publishes db');
  assert.deepEqual(relay.node.live.lastFailures('db'), [], 'one agent serves it: nothing failed');
  const foreign = await ends.gateway.login.requestLink({ ...request, connection: 'web' });
  assert.ok('refused' in foreign && foreign.code === 'not_authorized');
  await assert.rejects(ends.gateway.login.publish('db', 'h-k_send', ends.gatewayCertificate.spki));
  ends.agent.login.unpublish('db');
  await relay.node.live.streams();
  const unpublished = await ends.gateway.login.requestLink(request);
  assert.ok('refused' in unpublished && unpublished.code === 'no_agent');
  const excludedNow = await ends.gateway.login.requestLink({ ...request, exclude: [ends.agent.instance] });
  assert.ok('refused' in excludedNow);
  assert.equal(excludedNow.detail, 'no agent publishes db');
  const [latest, ...others] = relay.node.live.lastFailures('db');
  assert.deepEqual([latest?.stage, latest?.code, latest?.gateway], ['link', 'no_agent', 'gateway-1']);
  assert.deepEqual(others, []);
  await closeAll(relay, ends.agent, ends.gateway);
});
