import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { WebSocket } from 'ws';
import { CONTROL_PATH } from '../../src/protocol/index.ts';
import { COALESCE_MS } from '../../src/audit/index.ts';
import { Failures, MAX_FAILURES, MAX_LOGIN_REFUSALS } from '../../src/relay/failures.ts';
import { MAX_UNKNOWN_PER_ADDRESS } from '../../src/relay/entrance.ts';
import { SNIFF_TIMEOUT_MS } from '../../src/protocol/index.ts';
import { spkiFingerprint } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { ask, good } from './handshake.ts';
import { CA, closeAll, credential, HOST, startRelayNode, TestLogin, TLS } from './relay-fixture.ts';

test('a handshake is refused in plain HTTP with a stable code', async () => {
  const relay = await startRelayNode();
  const cases: [Record<string, string | undefined>, number, string][] = [
    [{ ...good, 'Sallyport-Role': undefined }, 400, 'role_missing'],
    [{ ...good, 'Sallyport-Connection': undefined }, 400, 'connection_missing'],
    [{ ...good, 'Sallyport-Connection': '../../etc' }, 400, 'connection_missing'],
    [{ ...good, Authorization: 'x'.repeat(5_000) }, 400, 'token_too_long'],
    [{ ...good, Authorization: undefined }, 401, 'token_missing'],
    [{ ...good, Authorization: 'key:wrong' }, 401, 'not_authorized'],
    [{ ...good, Authorization: 'key:wrong2', 'Sallyport-Connection': 'nowhere' }, 401, 'not_authorized'],
    [{ ...good, Authorization: 'key:k_listen' }, 403, 'claim_missing'],
    [{ ...good, 'Sallyport-Connection': 'nowhere' }, 404, 'connection_unknown'],
    [{ ...good, 'Sec-WebSocket-Protocol': 'other.v1' }, 426, 'upgrade_required'],
    [{}, 426, 'upgrade_required'],
  ];
  for (const [headers, status, code] of cases) {
    const answer = await ask(relay, headers);
    assert.deepEqual([answer.status, answer.code, answer.type], [status, code, 'application/problem+json']);
  }
  const elsewhere = await ask(relay, good, '/other');
  assert.deepEqual([elsewhere.status, elsewhere.code], [404, 'not_found']);
  assert.equal((await ask(relay, good)).status, 101);
  relay.control.heardAt = () => Number.NEGATIVE_INFINITY;
  const away = await ask(relay, { ...good, 'Sallyport-Connection': 'nowhere' });
  assert.deepEqual([away.status, away.code], [503, 'node_fenced'], 'never 404 without the database');
  assert.notEqual(away.retryAfter, undefined);
  await closeAll(relay);
});

test('failures are throttled by address and claimed key, a valid signature never', async () => {
  const relay = await startRelayNode({ clock: new ManualClock() });
  relay.control.heardAt = () => 0;
  const statuses: number[] = [];
  for (let tries = 0; tries < 12; tries += 1) {
    statuses.push((await ask(relay, { ...good, Authorization: 'key:guess' })).status);
  }
  assert.deepEqual(statuses, [...Array<number>(10).fill(401), 429, 429]);
  assert.equal(
    (await ask(relay, { ...good, Authorization: 'key:other' })).status,
    401,
    'another key is apart',
  );
  assert.equal((await ask(relay, good)).status, 101);
  await closeAll(relay);
});

test('failed authentications are on record, coalesced, with the key claimed', async () => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ clock });
  relay.control.heardAt = () => clock.monotonicMs();
  for (let tries = 0; tries < 5; tries += 1) await ask(relay, { ...good, Authorization: 'key:guess' });
  assert.equal(relay.audit.of('auth.failed').length, 1);
  clock.advance(COALESCE_MS);
  const [first, rest] = relay.audit.of('auth.failed').map(({ data }) => data as Record<string, unknown>);
  assert.deepEqual(
    [first?.['claimed_key_name'], first?.['code'], first?.['address'], first?.['count']],
    ['guess', 'not_authorized', HOST, 1],
  );
  assert.equal(rest?.['count'], 4);
  await closeAll(relay);
});

test('a refused login is told to `why`, once, and however many there are a few are kept', async () => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ clock });
  relay.control.heardAt = () => clock.monotonicMs();
  for (let tries = 0; tries < 3; tries += 1) await ask(relay, { ...good, Authorization: 'key:guess' });
  const [only, ...again] = relay.node.live.lastFailures('db');
  assert.deepEqual(again, []);
  assert.deepEqual([only?.stage, only?.code, only?.principal], ['login', 'not_authorized', null]);
  assert.match(only?.detail ?? '', new RegExp(`gateway at ${HOST}, which names the auth-rule guess`));
  for (let tries = 0; tries < MAX_FAILURES + MAX_LOGIN_REFUSALS; tries += 1)
    await ask(relay, { ...good, Authorization: `key:guess-${tries}` });
  assert.equal(relay.node.live.lastFailures('db').length, MAX_LOGIN_REFUSALS);
  await ask(relay, good);
  await closeAll(relay);
});

test('refused logins take no room of the streams and links that failed, and stand among them by time', () => {
  const failures = new Failures();
  const at = Date.parse('2026-01-05T10:00:00.000Z');
  const failed = {
    at: new Date(at).toISOString(),
    connection: 'db',
    stage: 'link',
    code: 'no_agent',
    detail: 'no agent publishes db',
    stream_id: null,
    decision_id: null,
    principal: null,
    gateway: 'gateway-1',
    agent: null,
    reasons: [],
  } as const;
  for (let count = 0; count < MAX_FAILURES; count += 1) failures.add(failed);
  const refused = {
    connection: 'db',
    role: 'gateway',
    address: HOST,
    code: 'claim_missing',
    detail: 'x',
  } as const;
  for (let count = 0; count < MAX_FAILURES; count += 1)
    failures.addLogin({ ...refused, claimedKeyName: `guess-${count}` }, { nowMs: () => at - 1 });
  failures.addLogin({ ...refused, claimedKeyName: undefined }, { nowMs: () => at + 1 });
  const stages = failures.last('db').map(({ stage }) => stage);
  assert.equal(stages.filter((stage) => stage === 'link').length, MAX_FAILURES);
  assert.equal(stages.filter((stage) => stage === 'login').length, MAX_LOGIN_REFUSALS);
  assert.deepEqual([stages[0], stages[1], stages.at(-1)], ['login', 'link', 'login']);
  assert.equal(failures.last('db')[0]?.detail, `x (claim_missing; gateway at ${HOST})`);
  assert.deepEqual(failures.last('web'), []);
});

test('a verification that throws is 503, and the next one is served', async () => {
  const relay = await startRelayNode();
  const { verify } = relay.control.admission;
  relay.control.admission.verify = () => Promise.reject(new Error('database went away'));
  const answer = await ask(relay, good);
  assert.deepEqual([answer.status, answer.code], [503, 'unavailable']);
  relay.control.admission.verify = verify;
  assert.equal((await ask(relay, good)).status, 101);
  await closeAll(relay);
});

test('a relay names its certificate and node to a probe', async () => {
  const relay = await startRelayNode();
  for (const preamble of [undefined, 'SALLYPORT/1 probe\n']) {
    const raw = connect(relay.port, HOST);
    if (preamble !== undefined) raw.write(preamble);
    const probe = connectTls({ socket: raw, ca: CA, host: HOST, ALPNProtocols: ['sp.probe'] });
    const [line] = (await once(probe, 'data')) as [Buffer];
    assert.match(
      line.toString(),
      new RegExp(
        `^SALLYPORT/1 node ${HOST}\\nSALLYPORT/1 run [0-9a-f-]{36}\\nSALLYPORT/1 key ${spkiFingerprint(TLS.cert)}\\n$`,
      ),
    );
    assert.equal(probe.alpnProtocol, 'sp.probe');
    probe.destroy();
  }
  await closeAll(relay);
});

test('who does not show what it is within 5 s is cut, and one address has only so many', async () => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ clock });
  const open = async (): Promise<Socket> => {
    const socket = connect(relay.port, HOST);
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    return socket;
  };
  const sockets: Socket[] = [];
  for (let count = 0; count < MAX_UNKNOWN_PER_ADDRESS; count += 1) sockets.push(await open());
  const tooMany = connect(relay.port, HOST);
  tooMany.on('error', () => undefined);
  const end = (socket: Socket): Promise<void> =>
    new Promise((resolve) => socket.resume().once('close', () => resolve()));
  await end(tooMany);
  const closed = sockets.map(end);
  clock.advance(SNIFF_TIMEOUT_MS + 200);
  await Promise.all(closed);
  const after = await open();
  after.write('SALLYPORT/1 link ');
  after.destroy();
  await closeAll(relay);
});

test('an unknown token is reset and makes no noise', async () => {
  const relay = await startRelayNode();
  const socket = connect(relay.port, HOST);
  const gone = once(socket, 'error');
  await once(socket, 'connect');
  socket.resume().write(`SALLYPORT/1 link ${'0'.repeat(32)}\n`);
  const [error] = (await gone) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
  assert.deepEqual(relay.audit.events, []);
  await closeAll(relay);
});

test('who says no hello, or another role, is no login', async () => {
  const relay = await startRelayNode();
  const open = async (): Promise<WebSocket> => {
    const socket = new WebSocket(`wss://${HOST}:${relay.port}${CONTROL_PATH}`, 'sallyport.v1', {
      ca: CA,
      headers: { authorization: 'key:k_send', 'sallyport-connection': 'db', 'sallyport-role': 'gateway' },
    });
    socket.on('error', () => undefined);
    await once(socket, 'open');
    return socket;
  };
  const hello = { version: 1, features: [], build: 't', name: 'g', namespace: 'relay.test', role: 'agent' };
  for (const first of [
    JSON.stringify({ t: 'hello', id: 1, ...hello }),
    JSON.stringify({ t: 'unpublish', id: 1, connection: 'db' }),
    'not json',
  ]) {
    const socket = await open();
    const closed = once(socket, 'close');
    socket.send(first);
    await closed;
  }
  assert.deepEqual(relay.node.live.logins(), []);
  await closeAll(relay);
});

test('an instance cannot be taken by who does not know its secret', async () => {
  const relay = await startRelayNode();
  const first = new TestLogin(relay.config, 'agent', 'agent-1', [credential('k_listen', 'db')]);
  first.login.start();
  await first.until('onAttached');
  const thief = new TestLogin(relay.config, 'agent', 'agent-1', [credential('k_listen', 'db')], {
    instance: first.instance,
    secret: 'guessed',
  });
  thief.login.start();
  const down = await thief.until('onDown');
  assert.match(down.detail, /instance_taken/);
  assert.equal(first.login.state().kind, 'up');
  const elsewhere = new TestLogin(relay.config, 'agent', 'agent-2', [credential('k_listen', 'db')], {
    namespace: 'other.test',
  });
  elsewhere.login.start();
  assert.match((await elsewhere.until('onDown')).detail, /namespace_unknown/);
  await closeAll(relay, first, thief, elsewhere);
});
