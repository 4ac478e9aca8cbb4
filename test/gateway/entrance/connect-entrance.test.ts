import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FAREWELL_MS } from '../../../src/gateway/entrance/conversations.ts';
import { MAX_AUTHORITY_LENGTH, MAX_HEADER_BYTES } from '../../../src/gateway/entrance/connect-messages.ts';
import { DEFAULT_WHEEL_TICK_MS } from '../../../src/runtime/index.ts';
import { eventually } from '../../support/eventually.ts';
import { dial, readToEnd } from '../../support/sockets.ts';
import { readHead } from './client-words.ts';
import { startEntrance } from './entrance-rig.ts';

const DEADLINE = { timeout: 60_000 };
const PASSWORD = 'a password of the tests';
const basic = (name: string, password: string): string =>
  `Proxy-Authorization: Basic ${Buffer.from(`${name}:${password}`).toString('base64')}\r\n`;
const connectTo = (target: string, headers = ''): string =>
  `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${headers}\r\n`;

test('a request byte by byte, and what comes behind it, is the application’s', DEADLINE, async (t) => {
  const rig = await startEntrance(t, 'http_connect');
  const socket = dial(t, rig.listen);
  for (const byte of Buffer.from(connectTo('SQL01.corp.example.:1433', 'User-Agent: x\r\n'))) {
    const sent = new Promise((resolve) => socket.write(Buffer.from([byte]), resolve));
    await sent;
  }
  const { application, connection } = await rig.next();
  assert.equal(connection, 'orders-db');
  assert.equal(application.label, 'http_connect');
  application.accepted('0190-id');
  assert.equal(
    await readHead(socket),
    'HTTP/1.1 200 Connection established\r\nSallyport-Stream: 0190-id\r\n\r\n',
  );
});

test('early data behind the request is kept, whether it came with it or after it', DEADLINE, async (t) => {
  const rig = await startEntrance(t, 'http_connect');
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.nat({ max: 300 }), async (bytes, at) => {
      const all = Buffer.concat([Buffer.from(connectTo('shop:1')), bytes]);
      const place = Math.min(all.length, all.length - bytes.length + at);
      const socket = dial(t, rig.listen);
      socket.write(all.subarray(0, place));
      const { application } = await rig.next();
      socket.end(all.subarray(place));
      const chunks = [application.early];
      for await (const chunk of application.socket) chunks.push(chunk as Buffer);
      assert.deepEqual(Buffer.concat(chunks), Buffer.from(bytes));
      application.socket.destroy();
      socket.destroy();
    }),
    { numRuns: 40 },
  );
});

const refusals: {
  name: string;
  request: string;
  users?: true;
  status: number;
  cause: string;
  header?: RegExp;
}[] = [
  {
    name: 'a target that is not listed',
    request: connectTo('other.example:1433'),
    status: 403,
    cause: 'unlisted',
  },
  {
    name: 'another port of a target',
    request: connectTo('sql01.corp.example:1434'),
    status: 403,
    cause: 'unlisted',
  },
  {
    name: 'a connection with another port than its target',
    request: connectTo('orders-db:1'),
    status: 403,
    cause: 'unlisted',
  },
  { name: 'loopback', request: connectTo('127.0.0.1:1433'), status: 403, cause: 'unlisted' },
  { name: 'a target without a port', request: connectTo('shop'), status: 400, cause: 'malformed' },
  { name: 'a port beyond 65535', request: connectTo('shop:65536'), status: 400, cause: 'malformed' },
  { name: 'a target with a user', request: connectTo('u@shop:1'), status: 400, cause: 'malformed' },
  { name: 'a URL', request: connectTo('http://shop:1/'), status: 400, cause: 'malformed' },
  { name: 'a name in brackets', request: connectTo('[shop]:1'), status: 400, cause: 'malformed' },
  {
    name: 'a target that is too long',
    request: connectTo(`${'a'.repeat(MAX_AUTHORITY_LENGTH)}:1`),
    status: 414,
    cause: 'malformed',
  },
  {
    name: 'headers that are too long',
    request: connectTo('shop:1', `X: ${'x'.repeat(MAX_HEADER_BYTES)}\r\n`),
    status: 431,
    cause: 'malformed',
  },
  {
    name: 'headers that never end',
    request: `CONNECT shop:1 HTTP/1.1\r\n${`X: ${'y'.repeat(99)}\r\n`.repeat(MAX_HEADER_BYTES / 50)}`,
    status: 431,
    cause: 'malformed',
  },
  { name: 'no Host', request: 'CONNECT shop:1 HTTP/1.1\r\n\r\n', status: 400, cause: 'malformed' },
  { name: 'two Hosts', request: connectTo('shop:1', 'Host: shop:1\r\n'), status: 400, cause: 'malformed' },
  {
    name: 'GET',
    request: 'GET http://shop/ HTTP/1.1\r\nHost: shop\r\n\r\n',
    status: 405,
    cause: 'unsupported',
    header: /\r\nAllow: CONNECT\r\n/,
  },
  {
    name: 'POST with a body',
    request: `POST http://shop/ HTTP/1.1\r\nHost: shop\r\nContent-Length: 500000\r\n\r\n${'x'.repeat(500_000)}`,
    status: 405,
    cause: 'unsupported',
  },
  { name: 'SOCKS5', request: '\u0005\u0001\u0000', status: 400, cause: 'malformed' },
  { name: 'TLS', request: '\u0016\u0003\u0001\u0002\u0000\u0001', status: 400, cause: 'malformed' },
  {
    name: 'smuggled line ends',
    request: 'CONNECT shop:1 HTTP/1.1\nHost: shop:1\rX: y\r\n\r\n',
    status: 400,
    cause: 'malformed',
  },
  {
    name: 'no login where there are users',
    request: connectTo('shop:1'),
    users: true,
    status: 407,
    cause: 'unauthenticated',
    header: /\r\nProxy-Authenticate: Basic realm="sallyport", charset="UTF-8"\r\n/,
  },
  {
    name: 'a wrong password',
    request: connectTo('shop:1', basic('app', `${PASSWORD}x`)),
    users: true,
    status: 407,
    cause: 'unauthenticated',
  },
  {
    name: 'a login of another scheme',
    request: connectTo('shop:1', `Proxy-Authorization: Bearer ${PASSWORD}\r\n`),
    users: true,
    status: 407,
    cause: 'unauthenticated',
  },
  {
    name: 'an unlisted target without a login',
    request: connectTo('other.example:1'),
    users: true,
    status: 407,
    cause: 'unauthenticated',
  },
];

for (const { name, request, users, status, cause, header } of refusals) {
  test(`${name}: ${status}`, DEADLINE, async (t) => {
    const rig = await startEntrance(t, 'http_connect', {
      settings: users === undefined ? {} : { users: [{ name: 'app', password: PASSWORD }] },
    });
    const socket = dial(t, rig.listen);
    const end = readToEnd(socket);
    socket.write(request);
    const { bytes, how } = await end;
    const text = bytes.toString();
    assert.equal(how, 'fin', 'the answer is not overtaken by a reset');
    const [head = '', body = ''] = text.split('\r\n\r\n');
    assert.match(head, new RegExp(`^HTTP/1\\.1 ${status} `));
    assert.match(head, new RegExp(`\r\nSallyport-Reason: ${cause}(\r\n|$)`));
    assert.match(`${head}\r\n`, /\r\nConnection: close\r\n/);
    assert.match(`${head}\r\n`, new RegExp(`\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`));
    assert.match(body, new RegExp(`^${cause}: .+\n$`));
    if (header !== undefined) assert.match(`${head}\r\n`, header);
    assert.doesNotMatch(text, new RegExp(PASSWORD));
    assert.deepEqual(await rig.refused(), { [cause]: 1 });
    assert.equal(rig.accepted.length, 0);
    assert.equal(rig.entrance.handshakes, 0);
  });
}

test('a user’s login is taken, and the evidence names the user', DEADLINE, async (t) => {
  const rig = await startEntrance(t, 'http_connect', {
    settings: { users: [{ name: 'app', password: PASSWORD }] },
  });
  dial(t, rig.listen).write(connectTo('shop:1', basic('app', PASSWORD)));
  assert.equal((await rig.next()).application.label, 'http_connect/app');
});

test('HTTP/1.0 needs no Host', DEADLINE, async (t) => {
  const rig = await startEntrance(t, 'http_connect');
  dial(t, rig.listen).write('CONNECT shop:1 HTTP/1.0\r\n\r\n');
  assert.equal((await rig.next()).connection, 'shop');
});

test('one connection has one answer, whatever stands behind its request', DEADLINE, async (t) => {
  const rig = await startEntrance(t, 'http_connect');
  for (const first of ['GET / HTTP/1.1\r\nHost: x\r\n\r\n', 'rubbish\r\n\r\n', connectTo('nobody:1')]) {
    const socket = dial(t, rig.listen);
    const end = readToEnd(socket);
    socket.write(first + connectTo('shop:1') + connectTo('shop:2'));
    const { bytes } = await end;
    assert.equal(bytes.toString().match(/HTTP\/1\.1/g)?.length, 1);
  }
  assert.equal(rig.accepted.length, 0);
});

test('why there is no stream: status, reason, stream and decision', DEADLINE, async (t) => {
  const rig = await startEntrance(t, 'http_connect');
  const socket = dial(t, rig.listen);
  const end = readToEnd(socket);
  socket.write(`${connectTo('shop:1')}some early data`);
  const { application } = await rig.next();
  application.refused({
    reason: 'policy_denied',
    streamId: 'an-id',
    detail: undefined,
    decisionId: 'a-decision',
    isDialRefused: false,
  });
  const { bytes, how } = await end;
  assert.equal(how, 'fin');
  const text = bytes.toString();
  assert.match(text, /^HTTP\/1\.1 403 Forbidden\r\n/);
  assert.match(
    text,
    /\r\nSallyport-Reason: policy_denied\r\nSallyport-Stream: an-id\r\nSallyport-Decision: a-decision\r\n/,
  );
  assert.match(text, /\r\n\r\npolicy_denied: .*an-id/);
});

test('who was refused and goes on sending is cut in the end', DEADLINE, async (t) => {
  const rig = await startEntrance(t, 'http_connect');
  const socket = dial(t, rig.listen);
  socket.on('error', () => undefined);
  socket.write(connectTo('nobody:1'));
  assert.match(await readHead(socket), /^HTTP\/1\.1 403/);
  let isOpen = true;
  socket.once('close', () => (isOpen = false));
  socket.resume();
  const closed = new Promise((resolve) => socket.once('close', resolve));
  const send = (): void => {
    if (isOpen) socket.write('x'.repeat(1_000), () => setImmediate(send));
  };
  send();
  rig.clock.advance(FAREWELL_MS + DEFAULT_WHEEL_TICK_MS);
  await closed;
  await eventually('nothing is left', () => rig.clock.pendingCount === 0 || undefined);
});
