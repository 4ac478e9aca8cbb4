import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:https';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import type { VerifiedCredential } from '../../src/control/index.ts';
import type { ControlChannel, LinkOffer } from '../../src/protocol/index.ts';
import { OFFER_LIFE_MS, SNIFF_TIMEOUT_MS } from '../../src/protocol/index.ts';
import { Acceptor } from '../../src/relay/acceptor.ts';
import {
  MAX_PENDING_PER_ADDRESS,
  MAX_TOKEN_BYTES,
  problemOfRefusal,
} from '../../src/relay/control-endpoint.ts';
import { Failures } from '../../src/relay/failures.ts';
import { BytePipe } from '../../src/relay/byte-pipe.ts';
import { Entrance } from '../../src/relay/entrance.ts';
import { Origins } from '../../src/relay/origin.ts';
import { RawSockets } from '../../src/relay/raw-sockets.ts';
import { TrustedProxies } from '../../src/relay/trusted-proxies.ts';
import { Fence } from '../../src/relay/fence.ts';
import { Gatekeeper } from '../../src/relay/gatekeeper.ts';
import { LinkBook, MAX_HANDSHAKES, MAX_LINKS } from '../../src/relay/link-book.ts';
import { type HeldCredential, Login } from '../../src/relay/login.ts';
import { LoginBook, MAX_LOGINS, MAX_LOGINS_PER_PRINCIPAL } from '../../src/relay/login-book.ts';
import { LoginSession, MAX_CREDENTIALS } from '../../src/relay/login-session.ts';
import { silentLogger, uuidv7 } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { eventually } from '../support/eventually.ts';
import { ask, good } from './handshake.ts';
import { closeAll, FakeControl, HOST, NAMESPACE, startRelayNode, TLS } from './relay-fixture.ts';

const verified = (keyId: string, claim: 'Send' | 'Listen', principal = keyId): VerifiedCredential => ({
  ok: true,
  kind: 'sas',
  key_id: keyId,
  principal,
  auth_rule: principal,
  slot: 'primary',
  claims: [claim],
  expires_at_ms: Number.MAX_SAFE_INTEGER,
  connection_id: 'id-db',
  connection: 'db',
  scope: 'connection',
});

const held = (of: VerifiedCredential, cred = 'c1'): HeldCredential => ({
  cred,
  handle: cred,
  verified: of,
  endedBecause: undefined,
  expiry: undefined,
});

/** A login whose words go nowhere, with one credential `c1`. */
const loginOf = (clock: ManualClock, role: 'agent' | 'gateway', name: string, principal: string): Login => {
  const facts = {
    id: uuidv7(),
    role,
    name,
    instance: name,
    instanceSecret: 's',
    build: 'test',
    address: HOST,
    openedMs: 0,
    bundleSha256: undefined,
  };
  const channel = { send: () => undefined, close: () => undefined } as unknown as ControlChannel;
  const login = new Login(facts, channel, clock);
  const claim = role === 'agent' ? 'Listen' : 'Send';
  login.credentials.set('c1', held(verified(`k_${name}`, claim, principal)));
  return login;
};

/** A book of links with as many agents, and gateways that ask. */
const linkBook = (agentCount: number) => {
  const clock = new ManualClock();
  const agents = Array.from({ length: agentCount }, (_unused, n) =>
    loginOf(clock, 'agent', `agent-${n}`, 'listener'),
  );
  const links = new LinkBook({
    node: HOST,
    clock,
    logger: silentLogger,
    fence: new Fence({ clock, lastHeardMonotonicMs: () => clock.monotonicMs() }),
    isRevoked: () => false,
    endedBecause: () => undefined,
    join: (gateway, agent, nowMs, onEnd) => new BytePipe(gateway, agent, nowMs, onEnd),
    publishers: () =>
      agents.flatMap((login) => {
        const own = login.credentials.get('c1');
        return own === undefined ? [] : [{ login, credential: own, spki: 'a' }];
      }),
    onJoined: () => undefined,
    onClosed: () => undefined,
    onSettled: () => undefined,
  });
  const gatewayOf = (name: string): (() => LinkOffer | string) => {
    const gateway = loginOf(clock, 'gateway', name, 'sender');
    return () => {
      const answer = links.offer(gateway, { cred: 'c1', connection: 'db', spki: 'g', exclude: [] });
      return 'refused' in answer ? `${answer.code}: ${answer.detail}` : answer;
    };
  };
  const logins = new LoginBook({ clock, onExpired: () => undefined, onForgotten: () => undefined });
  return { clock, agents, links, logins, gatewayOf };
};

test('an Authorization header is looked at up to MAX_TOKEN_BYTES', async () => {
  const relay = await startRelayNode();
  const longest = await ask(relay, { ...good, Authorization: 'x'.repeat(MAX_TOKEN_BYTES) });
  assert.deepEqual([longest.status, longest.code], [401, 'not_authorized']);
  const longer = await ask(relay, { ...good, Authorization: 'x'.repeat(MAX_TOKEN_BYTES + 1) });
  assert.deepEqual([longer.status, longer.code], [400, 'token_too_long']);
  assert.equal(relay.control.verifying.length, 1, 'what is too long is not verified');
  await closeAll(relay);
});

test('one address has MAX_PENDING_PER_ADDRESS handshakes at once; the next is told to come back', async () => {
  const relay = await startRelayNode();
  let open: () => void = () => undefined;
  relay.control.gate = new Promise((resolve) => (open = resolve));
  const pending = Array.from({ length: MAX_PENDING_PER_ADDRESS }, () => ask(relay, good));
  await eventually('all are being verified', () =>
    relay.control.verifying.length === MAX_PENDING_PER_ADDRESS ? true : undefined,
  );
  const refused = await ask(relay, good);
  assert.deepEqual([refused.status, refused.code, refused.retryAfter], [429, 'too_many_handshakes', '1']);
  assert.equal(relay.control.verifying.length, MAX_PENDING_PER_ADDRESS);
  open();
  const answers = await Promise.all(pending);
  assert.ok(answers.every((answer) => answer.status === 101));
  await eventually('places are free again', async () =>
    (await ask(relay, good)).status === 101 ? true : undefined,
  );
  await closeAll(relay);
});

test('a node has MAX_LOGINS logins and a principal MAX_LOGINS_PER_PRINCIPAL of them', () => {
  const clock = new ManualClock();
  const logins = new LoginBook({ clock, onExpired: () => undefined, onForgotten: () => undefined });
  const fence = new Fence({ clock, lastHeardMonotonicMs: () => clock.monotonicMs() });
  const gate = new Gatekeeper({
    namespace: NAMESPACE,
    fence,
    logins,
    revocations: {
      isRevoked: () => undefined,
      isAgentRevoked: () => undefined,
      isConnectionRemoved: () => undefined,
    },
  });
  const refusal = (principal: string) => {
    const found = gate.refusedNow(verified('k_new', 'Send', principal));
    return found === undefined ? undefined : [found.status, found.code, found.detail, found.retryAfterS];
  };
  const add = (principal: string): Login => {
    const login = loginOf(clock, 'gateway', `g-${logins.size}`, principal);
    logins.add(login);
    return login;
  };
  for (let n = 0; n < MAX_LOGINS_PER_PRINCIPAL - 1; n += 1) add('busy');
  assert.equal(refusal('busy'), undefined);
  const last = add('busy');
  const full = `principal has ${MAX_LOGINS_PER_PRINCIPAL} logins on this node`;
  assert.deepEqual(refusal('busy'), [429, 'too_many_logins', full, 10]);
  assert.equal(refusal('other'), undefined, 'nobody else is refused for it');
  logins.forget(last, 'test');
  assert.equal(refusal('busy'), undefined);
  while (logins.size < MAX_LOGINS) add(`p-${logins.size}`);
  assert.deepEqual(refusal('other'), [429, 'too_many_logins', `node has ${MAX_LOGINS} logins`, 10]);
  logins.close();
});

test('a login holds MAX_CREDENTIALS, also when the last ones are verified at once', async () => {
  const { clock, links, logins } = linkBook(1);
  const control = new FakeControl(clock);
  control.addConnection('db');
  for (const key of ['k_a', 'k_b', 'k_c', 'k_d']) control.addKey(key, 'db', ['Send']);
  let open: () => void = () => undefined;
  control.gate = new Promise((resolve) => (open = resolve));
  const login = loginOf(clock, 'gateway', 'gateway-1', 'sender');
  const answers: Record<string, unknown>[] = [];
  const channel = {
    send: (t: string, body: object, re?: number) => {
      if (re !== undefined) answers.push({ t, re, ...body });
      return 1;
    },
  } as unknown as ControlChannel;
  login.channel = channel;
  const session = new LoginSession({
    login,
    channel,
    control,
    logins,
    links,
    failures: new Failures(),
    endpoint: { refused: problemOfRefusal },
    closedBecause: () => undefined,
    refusedNow: () => undefined,
    onLinkRefused: () => undefined,
    onRenewed: () => undefined,
    clock,
    logger: silentLogger,
  });
  const attach = (id: number, key: string): void =>
    session.receive({ t: 'attach', id, body: { connection: 'db', token: `key:${key}`, handle: key } });
  login.credentials.clear();
  while (login.credentials.size < MAX_CREDENTIALS - 1) {
    const filler = `filler-${login.credentials.size}`;
    login.credentials.set(filler, held(verified('k_send', 'Send'), filler));
  }
  // One place is left when all three are let through to be verified.
  for (const [n, key] of ['k_a', 'k_b', 'k_c'].entries()) attach(n + 1, key);
  open();
  await eventually('three answers', () => (answers.length === 3 ? true : undefined));
  assert.deepEqual(
    answers.map(({ t, re, status, code }) => [t, re, status, code]),
    [
      ['attached', 1, undefined, undefined],
      ['error', 2, 429, 'too_many_credentials'],
      ['error', 3, 429, 'too_many_credentials'],
    ],
  );
  assert.equal(login.credentials.size, MAX_CREDENTIALS);
  const verifications = control.verifying.length;
  attach(4, 'k_d');
  await eventually('a fourth answer', () => (answers.length === 4 ? true : undefined));
  assert.deepEqual([answers[3]?.['code'], control.verifying.length], ['too_many_credentials', verifications]);
  logins.close();
  links.close();
});

test('an agent has MAX_HANDSHAKES rendezvous that are not joined; an offer that runs out makes room', () => {
  const { clock, links, gatewayOf } = linkBook(1);
  const request = gatewayOf('gateway-1');
  for (let n = 0; n < MAX_HANDSHAKES; n += 1) assert.equal(typeof request(), 'object');
  assert.equal(request(), 'overloaded: every agent of db is busy with links');
  clock.advance(OFFER_LIFE_MS + 1_000);
  assert.equal(typeof request(), 'object');
  links.cutWhere(() => true, 'relay_shutdown');
  links.close();
});

test('a gateway has MAX_LINKS.gateway links and an agent MAX_LINKS.agent', () => {
  const { agents, links, gatewayOf } = linkBook(MAX_LINKS.gateway / MAX_HANDSHAKES + 1);
  const first = gatewayOf('gateway-1');
  for (let n = 0; n < MAX_LINKS.gateway; n += 1) assert.equal(typeof first(), 'object');
  assert.equal(first(), `overloaded: gateway has ${MAX_LINKS.gateway} links already`);
  const second = gatewayOf('gateway-2');
  assert.equal(typeof second(), 'object', 'another gateway is not refused for it');
  links.cutWhere(() => true, 'relay_shutdown');
  assert.equal(typeof first(), 'object');
  links.cutWhere(() => true, 'relay_shutdown');
  for (const agent of agents) agent.linkCount = MAX_LINKS.agent;
  const [only] = agents;
  assert.ok(only);
  only.linkCount = MAX_LINKS.agent - 1;
  assert.equal(typeof second(), 'object');
  assert.equal(second(), 'overloaded: every agent of db is busy with links');
  links.cutWhere(() => true, 'relay_shutdown');
  links.close();
});

test('all addresses together have maxUnknown connections that did not show what they are', async (t) => {
  const clock = new ManualClock();
  const https = createServer(TLS);
  const acceptor = new Acceptor({
    listen: [`${HOST}:0`],
    tls: TLS,
    clock,
    logger: silentLogger,
    https,
    entrance: new Entrance({
      proxies: new TrustedProxies([]),
      origins: new Origins(),
      maxUnknown: 3,
      clock,
      logger: silentLogger,
    }),
    probeAnswer: () => `SALLYPORT/1 node ${HOST}\n`,
    raws: new RawSockets(),
    onCarrier: () => undefined,
  });
  t.after(() => acceptor.close());
  const [bound = ''] = await acceptor.listen();
  const port = Number(bound.split(':').at(-1));
  const dial = (localAddress: string): Socket =>
    connect({ port, host: HOST, localAddress }).on('error', () => undefined);
  const from = async (localAddress: string): Promise<Socket> => {
    const socket = dial(localAddress);
    await once(socket, 'connect');
    return socket;
  };
  const closed = (socket: Socket): Promise<void> =>
    new Promise((resolve) => socket.resume().once('close', () => resolve()));
  const silent = [];
  for (const last of [1, 2, 3]) silent.push(await from(`127.0.0.${last}`));
  await closed(dial('127.0.0.4'));
  assert.ok(
    silent.every((socket) => !socket.destroyed),
    'those that are there stay',
  );
  const ends = silent.map(closed);
  clock.advance(SNIFF_TIMEOUT_MS + 200);
  await Promise.all(ends);
  const after = await from('127.0.0.4');
  const probe = connectTls({ socket: after, rejectUnauthorized: false, ALPNProtocols: ['sp.probe'] });
  const [line] = (await once(probe, 'data')) as [Buffer];
  assert.equal(line.toString(), `SALLYPORT/1 node ${HOST}\n`, 'and then others are served again');
  probe.destroy();
});
