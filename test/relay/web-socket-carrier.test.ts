import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:https';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { LINK_PATH, ServerRevocation, Session, TOKEN_HEADER } from '../../src/protocol/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { readToEnd } from '../support/sockets.ts';
import { freePort } from '../support/free-port.ts';
import { CA, openLink, openSide, type Relay, startEnds, startRelayNode } from './relay-fixture.ts';

/** A relay whose TCP data port nobody listens at for the sides named. */
const withoutTcp = async (relay: Relay): Promise<Pick<Relay, 'config'>> => ({
  config: { ...relay.config, data_ports: [await freePort()], websocket_port: relay.port },
});

const sidesOf = async (relay: Relay, gateway: boolean, agent: boolean) => {
  const webSocket = await withoutTcp(relay);
  return { gateway: gateway ? webSocket : relay, agent: agent ? webSocket : relay };
};

for (const [gatewaySide, agentSide, carrier] of [
  [true, true, 'websocket'],
  [true, false, 'websocket/tcp'],
  [false, true, 'tcp/websocket'],
] as const) {
  test(`a link over ${carrier} (gateway/agent) carries bytes both ways, is counted and recorded`, async () => {
    const relay = await startRelayNode();
    const ends = await startEnds(relay);
    const sides = await sidesOf(relay, gatewaySide, agentSide);
    const { gatewayPeer, agentPeer, offer } = await openLink(relay, ends, sides);
    assert.equal(gatewayPeer.carrier, gatewaySide ? 'websocket' : 'tcp');
    assert.equal(agentPeer.carrier, agentSide ? 'websocket' : 'tcp');
    assert.equal(agentPeer.port, relay.port);
    assert.equal(relay.node.live.links()[0]?.carrier, carrier);

    const MANY = 8 * 1024 * 1024;
    const sent = Buffer.alloc(MANY, 'up and down ');
    for (const [from, to] of [
      [gatewayPeer.duplex, agentPeer.duplex],
      [agentPeer.duplex, gatewayPeer.duplex],
    ] as const) {
      const got: Buffer[] = [];
      let count = 0;
      const all = new Promise<void>((resolve) =>
        to.on('data', (chunk: Buffer) => {
          got.push(chunk);
          count += chunk.length;
          if (count >= MANY) resolve();
        }),
      );
      to.resume();
      from.write(sent);
      await all;
      to.removeAllListeners('data');
      assert.ok(Buffer.concat(got).equals(sent), 'what was sent came, whole and in order');
    }
    // A half of the link ends by itself, and nothing of the other half is lost.
    const end = readToEnd(gatewayPeer.duplex);
    const agentEnd = readToEnd(agentPeer.duplex);
    gatewayPeer.duplex.end();
    await once(agentPeer.duplex, 'end');
    agentPeer.duplex.end('last words');
    assert.equal((await end).bytes.toString(), 'last words');
    assert.equal((await agentEnd).how, 'fin');
    const closed = await relay.audit.until((event) => event.type === 'link.closed');
    assert.equal(closed.subject.carrier, carrier);
    assert.equal(closed.subject.link_id, offer.link_id);
    const { bytes_up: up, bytes_down: down } = closed.data as { bytes_up?: number; bytes_down?: number };
    assert.deepEqual({ up, down }, agentPeer.carrierBytes());
  });
}

/** Passes connections on to the relay; `ends` says how the relay ended each. */
const startRecorder = async (relay: Relay): Promise<{ port: number; ends: Promise<string>[] }> => {
  const ends: Promise<string>[] = [];
  const server = createServer((near) => {
    const far = connect(relay.port, '127.0.0.1');
    ends.push(
      new Promise((resolve) => {
        far.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
        far.once('end', () => resolve('fin'));
      }),
    );
    near.on('error', () => far.destroy()).pipe(far);
    far.on('data', (chunk: Buffer) => near.write(chunk)).on('close', () => near.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  opened.push(server);
  return { port: (server.address() as AddressInfo).port, ends };
};

const opened: Server[] = [];
afterEach(() => {
  for (const server of opened.splice(0)) server.close();
});

test('a revoked key resets the TCP connections under WebSockets, with data in flight', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const recorder = await startRecorder(relay);
  const way = { config: { ...relay.config, data_ports: [await freePort()], websocket_port: recorder.port } };
  const { gatewayPeer, agentPeer } = await openLink(relay, ends, { gateway: way, agent: way });
  for (const { duplex } of [gatewayPeer, agentPeer]) duplex.on('error', () => undefined);
  gatewayPeer.duplex.write(Buffer.alloc(4 * 1024 * 1024));
  relay.control.revoke('k_send');
  assert.equal(relay.node.live.links().length, 0, 'cut in the tick of the revocation');
  assert.deepEqual(await Promise.all(recorder.ends), ['ECONNRESET', 'ECONNRESET']);
  await ends.gateway.until('onLinkClosed', ({ reason }) => reason === 'key_revoked');
});

test('an end that resets its carrier resets the TCP connection under it', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const near: Socket[] = [];
  const server = createServer((socket) => {
    near.push(socket);
    const far = connect(relay.port, '127.0.0.1');
    socket.pipe(far).on('error', () => undefined);
    far.pipe(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  opened.push(server);
  const { port } = server.address() as AddressInfo;
  const way = { config: { ...relay.config, data_ports: [await freePort()], websocket_port: port } };
  const { agentPeer, gatewayPeer } = await openLink(relay, ends, { gateway: relay, agent: way });
  gatewayPeer.duplex.on('error', () => undefined);
  agentPeer.duplex.on('error', () => undefined);
  const [socket] = near;
  assert.ok(socket !== undefined);
  const reset = new Promise<string>((resolve) => {
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.once('end', () => resolve('fin'));
  });
  agentPeer.raw.resetAndDestroy();
  assert.equal(await reset, 'ECONNRESET');
  socket.destroy();
});

test('sessions run over WebSocket carriers', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const { gatewayPeer, agentPeer } = await openLink(relay, ends, await sidesOf(relay, true, true));
  const gateway = new Session(gatewayPeer, { clock: systemClock });
  const agent = new Session(agentPeer, { clock: systemClock });
  const ended = new Promise((resolve) => agent.onEnd(resolve));
  gateway.destroy('gateway_shutdown');
  assert.equal(((await ended) as { reason: string }).reason, 'link_lost');
});

test('a token is good once and for its side, and everything else is refused by status', async () => {
  const relay = await startRelayNode();
  const ask = (headers: Record<string, string>): Promise<{ status: number; body: string }> =>
    new Promise((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port: relay.port, path: LINK_PATH, ca: CA, headers });
      sent.on('response', (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      sent.on('upgrade', (_response, socket) => {
        socket.destroy();
        resolve({ status: 101, body: '' });
      });
      sent.on('error', reject);
      sent.end();
    });
  const handshake = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-key': Buffer.alloc(16).toString('base64'),
    'sec-websocket-version': '13',
    'sec-websocket-protocol': 'sallyport.v1',
  };
  const code = async (headers: Record<string, string>): Promise<string> => {
    const { status, body } = await ask(headers);
    return `${status} ${status === 101 ? '' : (JSON.parse(body) as { code: string }).code}`;
  };
  assert.equal(await code({}), '426 upgrade_required');
  assert.equal(await code({ ...handshake, 'sec-websocket-protocol': 'other' }), '426 upgrade_required');
  assert.equal(await code(handshake), '400 role_missing');
  const asAgent = { ...handshake, 'sallyport-role': 'agent' };
  assert.equal(await code(asAgent), '400 token_malformed');
  assert.equal(await code({ ...asAgent, [TOKEN_HEADER]: 'a'.repeat(32) }), '404 token_unknown');

  const ends = await startEnds(relay);
  const offer = await ends.gateway.login.requestLink({
    cred: ends.cred,
    connection: 'db',
    spki: ends.gatewayCertificate.spki,
    exclude: [],
  });
  assert.ok(!('refused' in offer));
  assert.equal(await code({ ...asAgent, [TOKEN_HEADER]: offer.token }), '404 token_unknown', "the gateway's");
  const asGateway = { ...asAgent, 'sallyport-role': 'gateway', [TOKEN_HEADER]: offer.token };
  assert.equal(await code(asGateway), '101 ');
  assert.equal(await code(asGateway), '404 token_unknown', 'used');
});

test('a WebSocket tells its token to no node whose certificate may be revoked; TCP tells none', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  // The node's certificate names no list: under `hard` that is too little.
  const revocation = new ServerRevocation({
    mode: 'hard',
    stateDir: undefined,
    clock: systemClock,
    logger: silentLogger,
  });
  const ask = () =>
    ends.gateway.login.requestLink({
      cred: ends.cred,
      connection: 'db',
      spki: ends.gatewayCertificate.spki,
      exclude: [],
    });
  const offer = await ask();
  assert.ok(!('refused' in offer));
  const own = { name: 'gateway-1', instance: ends.gateway.instance };
  const webSocket = { ...(await withoutTcp(relay)), revocation };
  await assert.rejects(openSide('gateway', webSocket, offer, ends.gatewayCertificate, own), (error: Error) =>
    /ERR_CERTIFICATE_REVOCATION_UNKNOWN|names no CRL|no list/.test(`${String(error)} ${String(error.cause)}`),
  );
  // The token was not used up.
  const agentOffer = await ends.agent.until('onOffer', ({ link_id }) => link_id === offer.link_id);
  const [peer] = await Promise.all([
    openSide('gateway', { ...relay, revocation }, offer, ends.gatewayCertificate, own),
    openSide('agent', relay, agentOffer, ends.agentCertificate, {
      name: 'agent-1',
      instance: ends.agent.instance,
    }),
  ]);
  assert.equal(peer.carrier, 'tcp');
});
