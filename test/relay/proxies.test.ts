import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { request } from 'node:https';
import { CONTROL_PATH, MAX_PROXY_HEADER_BYTES, SNIFF_TIMEOUT_MS } from '../../src/protocol/index.ts';
import { MAX_UNKNOWN_PER_ADDRESS } from '../../src/relay/entrance.ts';
import type { Logger } from '../../src/runtime/index.ts';
import { pino } from 'pino';
import { ManualClock } from '../support/manual-clock.ts';
import { readToEnd } from '../support/sockets.ts';
import {
  CA,
  closeAll,
  credential,
  HOST,
  openLink,
  type Relay,
  startEnds,
  startRelayNode,
  TestLogin,
} from './relay-fixture.ts';

/** Loopback addresses that the proxies of these tests dial from, each listed in another way. */
const PROXY = '127.0.0.2';
const HTTP_PROXY = '127.0.0.3';
const SILENT_PROXY = '127.0.0.4';
const TRUSTED = [
  { address: PROXY, sends: 'proxy_protocol' },
  HTTP_PROXY,
  { address: '127.0.0.4/32', sends: 'nothing' },
] as const;

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

/** A version 2 header of an IPv4 connection from `source`, with `tlvBytes` of one no-op TLV. */
const headerOf = (source: string, tlvBytes = 0): Buffer => {
  const addresses = [...source.split('.'), ...'203.0.113.9'.split('.')].map(Number);
  const body = Buffer.concat([
    Buffer.from([...addresses, 0x1f, 0x90, 0x01, 0xbb]),
    Buffer.alloc(tlvBytes, 4),
  ]);
  const fixed = Buffer.from([0x21, 0x11, 0, 0]);
  fixed.writeUInt16BE(body.length, 2);
  return Buffer.concat([SIGNATURE, fixed, body]);
};
const LOCAL_HEADER = Buffer.concat([SIGNATURE, Buffer.from('20000000', 'hex')]);

/** A TCP proxy that dials the relay from `from`, writes what `header` says for its n-th connection, then copies. */
const startProxy = async (t: TestContext, relay: Relay, from: string, header: () => readonly Buffer[]) => {
  const sockets: Socket[] = [];
  const server = createServer({ noDelay: true }, (down) => {
    const up = connect({ port: relay.port, host: HOST, localAddress: from, noDelay: true });
    sockets.push(down, up);
    for (const [one, other] of [
      [down, up],
      [up, down],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
    for (const piece of header()) up.write(piece);
    down.pipe(up).pipe(down);
  });
  server.listen(0, HOST);
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return { host: HOST, control_port: port, data_ports: [port] };
};

interface Line {
  readonly level: number;
  readonly peer?: string;
  readonly detail?: string;
}

const listeningLogger = (): { logger: Logger; lines: Line[] } => {
  const lines: Line[] = [];
  const stream = { write: (text: string) => void lines.push(JSON.parse(text) as Line) };
  return { logger: pino({ level: 'debug' }, stream), lines };
};

const WARN = 40;

/** Opens a connection to the relay from an address of this machine. */
const dialFrom = async (relay: Relay, from: string): Promise<Socket> => {
  const socket = connect({ port: relay.port, host: HOST, localAddress: from, noDelay: true });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
};

const DEADLINE_MS = 10_000;
const endOf = async (socket: Socket): Promise<string> => (await readToEnd(socket, DEADLINE_MS)).how;

const HANDSHAKE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': Buffer.alloc(16).toString('base64'),
  'Sec-WebSocket-Protocol': 'sallyport.v1',
  Authorization: 'key:guess',
  'Sallyport-Connection': 'db',
  'Sallyport-Role': 'gateway',
};

/** The status of a handshake that comes from `from`, behind `header`. */
const askFrom = async (
  relay: Relay,
  from: string,
  header: Buffer,
  headers: Record<string, string | string[]> = {},
): Promise<number> => {
  const raw = await dialFrom(relay, from);
  if (header.length > 0) raw.write(header);
  const tls: TLSSocket = connectTls({ socket: raw, ca: CA, host: HOST });
  tls.on('error', () => undefined);
  const sent = request({
    createConnection: () => tls,
    path: CONTROL_PATH,
    headers: { ...HANDSHAKE, ...headers },
  });
  sent.on('error', () => undefined).end();
  const status = await new Promise<number>((resolve, reject) => {
    sent.once('response', (response) => resolve(response.statusCode ?? 0));
    sent.once('upgrade', () => resolve(101));
    sent.once('close', () => reject(new Error('no answer')));
  });
  raw.destroy();
  return status;
};

const NOTHING: Buffer = Buffer.alloc(0);

test('behind a PROXY header everything of a node works, and the source is whom the header names', async (t) => {
  const relay = await startRelayNode({ trustedProxies: TRUSTED });
  const whole = await startProxy(t, relay, PROXY, () => [headerOf('198.51.100.7', 2_000)]);
  const ends = await startEnds({ ...relay, config: whole });
  const { agentOffer, gatewayPeer, agentPeer } = await openLink({ config: whole }, ends);
  assert.equal(agentOffer.source_address, '198.51.100.7');
  gatewayPeer.duplex.write('ping');
  const [up] = (await once(agentPeer.duplex.resume(), 'data')) as [Buffer];
  assert.equal(up.toString(), 'ping');
  assert.deepEqual(
    relay.node.live.logins().map(({ address }) => address),
    ['198.51.100.7', '198.51.100.7'],
  );
  const opened = await relay.audit.until(({ type }) => type === 'login.opened');
  assert.equal(opened.subject.source_addr, '198.51.100.7');
  assert.deepEqual(
    relay.control.verifying.map(({ source }) => source),
    ['198.51.100.7', '198.51.100.7'],
  );

  const line = await startProxy(t, relay, PROXY, () => [Buffer.from('PROXY TCP6 2001:DB8::7 ::1 1 2\r\n')]);
  const third = new TestLogin(line, 'gateway', 'gateway-3', [credential('k_send', 'db')]);
  third.login.start();
  await third.until('onAttached');
  assert.equal(relay.control.verifying.at(-1)?.source, '2001:db8::7');

  const local = await startProxy(t, relay, PROXY, () => [LOCAL_HEADER]);
  const fourth = new TestLogin(local, 'gateway', 'gateway-4', [credential('k_send', 'db')]);
  fourth.login.start();
  await fourth.until('onAttached');
  assert.equal(relay.control.verifying.at(-1)?.source, undefined, 'absent, never the address of the proxy');
  await closeAll(relay, ends.agent, ends.gateway, third, fourth);
});

test('however the header and what follows are cut, a probe is answered', async (t) => {
  const relay = await startRelayNode({ trustedProxies: TRUSTED });
  t.after(() => relay.node.close());
  const wire = Buffer.concat([headerOf('198.51.100.7', 7), Buffer.from('SALLYPORT/1 probe\n')]);
  for (const sizeBytes of [1, 5, 16, 35, 36, wire.length]) {
    const raw = await dialFrom(relay, PROXY);
    for (let at = 0; at < wire.length; at += sizeBytes) {
      raw.write(wire.subarray(at, at + sizeBytes));
      // Nothing tells when a segment has arrived; without delay and with a turn between, most come alone.
      await new Promise((resolve) => setImmediate(resolve));
    }
    const probe = connectTls({ socket: raw, ca: CA, host: HOST, ALPNProtocols: ['sp.probe'] });
    const [answer] = (await once(probe, 'data')) as [Buffer];
    assert.match(answer.toString(), /^SALLYPORT\/1 node 127\.0\.0\.1\n/, `pieces of ${sizeBytes}`);
    probe.destroy();
  }
});

test('a header from who is not trusted to send one, and none from who must, are refused and logged', async (t) => {
  const { logger, lines } = listeningLogger();
  const relay = await startRelayNode({ trustedProxies: TRUSTED, logger });
  t.after(() => relay.node.close());
  const probe = Buffer.from('SALLYPORT/1 probe\n');
  const cases: [string, Buffer, RegExp][] = [
    [HOST, headerOf('198.51.100.7'), /from an address that trusted_proxies does not say sends one/],
    [
      HOST,
      Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n'),
      /from an address that trusted_proxies does not/,
    ],
    [HTTP_PROXY, headerOf('198.51.100.7'), /from an address that trusted_proxies does not say sends one/],
    [SILENT_PROXY, headerOf('198.51.100.7'), /from an address that trusted_proxies does not say sends one/],
    [PROXY, NOTHING, /no PROXY header came from a proxy that has to send one/],
    [PROXY, headerOf('198.51.100.7', MAX_PROXY_HEADER_BYTES), /header of 4124 bytes is longer than 4096/],
  ];
  for (const [from, header, detail] of cases) {
    const socket = await dialFrom(relay, from);
    const end = endOf(socket);
    socket.write(Buffer.concat([header, probe]));
    assert.equal(await end, 'ECONNRESET', `${from} ${String(detail)}`);
    const line = lines.at(-1);
    assert.deepEqual([line?.level, line?.peer], [WARN, from]);
    assert.match(line?.detail ?? '', detail);
  }
  const again = await dialFrom(relay, PROXY);
  const end = endOf(again);
  again.write(Buffer.concat([headerOf('198.51.100.7'), headerOf('198.51.100.8'), probe]));
  assert.equal(await end, 'ECONNRESET', 'a second header is the client’s');
});

test('strangers with PROXY headers do not fill the log', async (t) => {
  const { logger, lines } = listeningLogger();
  const relay = await startRelayNode({ trustedProxies: TRUSTED, logger, clock: new ManualClock() });
  t.after(() => relay.node.close());
  for (let count = 0; count < 20; count += 1) {
    const socket = await dialFrom(relay, `127.0.1.${count}`);
    const end = endOf(socket);
    socket.write(headerOf('198.51.100.7'));
    await end;
  }
  assert.equal(lines.filter(({ level }) => level >= WARN).length, 3);
  assert.equal(lines.filter(({ detail }) => detail?.includes('PROXY header') === true).length, 20);
});

test('a proxy that does not finish its header in time is cut', async (t) => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ trustedProxies: TRUSTED, clock });
  t.after(() => relay.node.close());
  const header = headerOf('198.51.100.7');
  const sockets = await Promise.all(
    [NOTHING, header.subarray(0, 20), header].map(async (bytes) => {
      const socket = await dialFrom(relay, PROXY);
      if (bytes.length > 0) socket.write(bytes);
      return socket;
    }),
  );
  // A connection that came later and is answered shows that these have been accepted.
  assert.equal(await askFrom(relay, PROXY, header), 401);
  const ends = sockets.map(endOf);
  clock.advance(SNIFF_TIMEOUT_MS + 200);
  await Promise.all(ends);
});

test('connections count by their source: one client of a proxy does not use up what the others have', async (t) => {
  const relay = await startRelayNode({ trustedProxies: TRUSTED, clock: new ManualClock() });
  relay.control.heardAt = () => 0;
  t.after(() => relay.node.close());
  const greedy = headerOf('198.51.100.7');
  for (let count = 0; count < MAX_UNKNOWN_PER_ADDRESS; count += 1)
    (await dialFrom(relay, PROXY)).write(greedy);
  const tooMany = await dialFrom(relay, PROXY);
  const end = endOf(tooMany);
  tooMany.write(greedy);
  assert.equal(await end, 'ECONNRESET');
  assert.equal(await askFrom(relay, PROXY, headerOf('198.51.100.8')), 401);
});

test('X-Forwarded-For of a trusted proxy names the source in limits and evidence, of anybody else nothing', async (t) => {
  const relay = await startRelayNode({ trustedProxies: TRUSTED, clock: new ManualClock() });
  relay.control.heardAt = () => 0;
  t.after(() => relay.node.close());
  const ask = (from: string, forwardedFor: string | undefined, header = NOTHING): Promise<number> =>
    askFrom(relay, from, header, forwardedFor === undefined ? {} : { 'X-Forwarded-For': forwardedFor });
  const tries = 12;
  const statuses: number[] = [];
  for (let count = 0; count < tries; count += 1)
    statuses.push(await ask(HTTP_PROXY, `6.6.6.${count}, 198.51.100.7`));
  assert.deepEqual(statuses, [...Array<number>(10).fill(401), 429, 429], 'by source, not by what it claims');
  assert.equal(await ask(HTTP_PROXY, '198.51.100.8'), 401, 'another source of the same proxy');
  assert.equal(await ask(HTTP_PROXY, undefined), 401);
  assert.equal(await ask(SILENT_PROXY, '198.51.100.9'), 401);
  assert.equal(await ask(HOST, '198.51.100.10'), 401);
  assert.equal(
    await ask(PROXY, '198.51.100.11', headerOf(HTTP_PROXY)),
    401,
    'an HTTP proxy behind a TCP proxy',
  );
  assert.equal(
    await ask(PROXY, '198.51.100.12', headerOf('198.51.100.13')),
    401,
    'a client behind a TCP proxy',
  );
  const addresses = relay.audit.of('auth.failed').map(({ subject }) => subject.source_addr);
  assert.deepEqual(addresses, [
    '198.51.100.7',
    '198.51.100.8',
    undefined,
    HOST,
    '198.51.100.11',
    '198.51.100.13',
  ]);
  assert.deepEqual(
    relay.control.verifying.slice(tries).map(({ source }) => source),
    ['198.51.100.8', undefined, undefined, HOST, '198.51.100.11', '198.51.100.13'],
  );
});
