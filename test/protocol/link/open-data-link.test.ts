import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { connect as connectTls, TLSSocket } from 'node:tls';
import type { AuthenticatedPeer } from '../../../src/protocol/link/authenticated-peer.ts';
import { LinkError } from '../../../src/protocol/link/errors.ts';
import type { LinkOffer, PartyKey, Side } from '../../../src/protocol/link/offer.ts';
import {
  type DataLinkOptions,
  HANDSHAKE_TIMEOUT_MS,
  openDataLink,
} from '../../../src/protocol/link/open-data-link.ts';
import { linkPreamble, tokenProtocol } from '../../../src/protocol/carrier/preamble.ts';
import { type Clock, createLinkCertificate, silentLogger, systemClock } from '../../../src/runtime/index.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const agentCertificate = await createLinkCertificate('agent-1', systemClock);
const gatewayCertificate = await createLinkCertificate('gateway-1', systemClock);
const stranger = await createLinkCertificate('agent-1', systemClock);
const certificates = { agent: agentCertificate, gateway: gatewayCertificate };
const NAMES = { agent: 'agent-1', gateway: 'gateway-1' } as const;

const key: PartyKey = {
  kind: 'sas',
  id: 'k_1',
  principal: 'p',
  auth_rule: 'r',
  slot: 'primary',
  claims: ['Send'],
  proved_by: 'relay',
};

const opened: (() => void)[] = [];
afterEach(() => {
  for (const close of opened.splice(0)) close();
});

/** A relay that joins whoever comes first with whoever comes second, and can tamper. */
const startJoin = async (
  tamper: (
    sockets: { gateway: Socket; agent: Socket },
    heads: { gateway: Buffer; agent: Buffer },
  ) => boolean = () => false,
) => {
  const sockets: Socket[] = [];
  let arrived = (): void => undefined;
  const first = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  let waiting: { socket: Socket; head: Buffer } | undefined;
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.once('data', (bytes: Buffer) => {
      socket.pause();
      const preamble = linkPreamble('b'.repeat(32)).length;
      const isGateway = bytes[0] === 'S'.charCodeAt(0);
      const here = { socket, head: isGateway ? bytes.subarray(preamble) : bytes };
      if (waiting === undefined) {
        waiting = here;
        arrived();
        return;
      }
      const [gateway, agent] = isGateway ? [here, waiting] : [waiting, here];
      const heads = { gateway: gateway.head, agent: agent.head };
      if (tamper({ gateway: gateway.socket, agent: agent.socket }, heads)) return;
      gateway.socket.write(agent.head);
      agent.socket.write(gateway.head);
      gateway.socket.pipe(agent.socket).pipe(gateway.socket);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const close = (): void => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  opened.push(close);
  return { port, first, close };
};

const options = (
  side: Side,
  port: number,
  changes: { offer?: Partial<LinkOffer>; clock?: Clock; own?: Partial<DataLinkOptions['own']> } = {},
): DataLinkOptions => {
  const peer = side === 'agent' ? 'gateway' : 'agent';
  return {
    side,
    offer: {
      link_id: '01900000-0000-7000-8000-000000000001',
      token: (side === 'agent' ? 'a' : 'b').repeat(32),
      node: '127.0.0.1',
      connection: 'db',
      connection_id: 'c-1',
      peer: { spki: certificates[peer].spki, name: NAMES[peer], instance: `i-${peer}` },
      sender: key,
      listener: key,
      gateway: 'gateway-1',
      agent: 'agent-1',
      ...changes.offer,
    },
    node: { host: '127.0.0.1', control_port: port, data_ports: [port] },
    certificate: certificates[side],
    own: { name: NAMES[side], instance: `i-${side}`, namespace: 'relay.test', build: 't', ...changes.own },
    clock: changes.clock ?? systemClock,
    logger: silentLogger,
  };
};

const failure = async (opening: Promise<AuthenticatedPeer>): Promise<LinkError> => {
  const outcome = await opening.then(
    (peer) => peer.duplex.destroy(),
    (error: unknown) => error,
  );
  assert.ok(outcome instanceof LinkError, `no link error: ${String(outcome)}`);
  return outcome;
};

test('both sides come up over TLS 1.3 and no session ticket is of use', async () => {
  const join = await startJoin();
  const [gateway, agent] = await Promise.all([
    openDataLink(options('gateway', join.port)),
    openDataLink(options('agent', join.port)),
  ]);
  assert.equal(agent.duplex.getProtocol(), 'TLSv1.3');
  assert.equal(agent.duplex.alpnProtocol, 'sallyport.v1');
  assert.equal(agent.duplex.isSessionReused(), false);
  assert.equal(gateway.peerSpki, agentCertificate.spki);
  assert.equal(agent.peerSpki, gatewayCertificate.spki);
  assert.notEqual(agent.ownHello.secret, gateway.ownHello.secret);
  for (const { duplex } of [gateway, agent]) duplex.destroy();
  join.close();
});

test('a relay that puts another certificate in the offer is caught before a word is said', async () => {
  const join = await startJoin();
  const swapped = { peer: { spki: stranger.spki, name: 'agent-1', instance: 'i-agent' } };
  const gateway = failure(openDataLink(options('gateway', join.port, { offer: swapped })));
  const agent = failure(openDataLink(options('agent', join.port)));
  assert.deepEqual([(await gateway).code, (await gateway).step], ['ERR_LINK_PIN', 'pin']);
  assert.equal((await agent).code, 'ERR_LINK_LOST', 'the agent never saw a hello');
  join.close();
});

test('a relay that names another connection to one side is caught', async () => {
  const join = await startJoin();
  const gateway = failure(openDataLink(options('gateway', join.port)));
  const agent = failure(openDataLink(options('agent', join.port, { offer: { connection: 'other' } })));
  const errors = [await gateway, await agent];
  assert.ok(errors.some(({ code, reason }) => code === 'ERR_LINK_HELLO' && reason === 'protocol_error'));
  join.close();
});

test('a relay in the middle with a certificate of its own is caught by the agent', async () => {
  const join = await startJoin(({ agent }, heads) => {
    agent.unshift(heads.agent);
    const middle = new TLSSocket(agent, {
      isServer: true,
      cert: stranger.certPem,
      key: stranger.keyPem,
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: ['sallyport.v1'],
    });
    middle.on('error', () => undefined);
    return true;
  });
  const gateway = failure(openDataLink(options('gateway', join.port)));
  const agent = await failure(openDataLink(options('agent', join.port)));
  assert.deepEqual([agent.code, agent.step], ['ERR_LINK_PIN', 'pin']);
  join.close();
  await gateway;
});

test('an older TLS is refused', async () => {
  const join = await startJoin();
  const gateway = failure(openDataLink(options('gateway', join.port)));
  const old = connectTls({
    port: join.port,
    host: '127.0.0.1',
    ALPNProtocols: [tokenProtocol('a'.repeat(32)), 'sallyport.v1'],
    maxVersion: 'TLSv1.2',
    cert: agentCertificate.certPem,
    key: agentCertificate.keyPem,
    rejectUnauthorized: false,
  });
  old.on('error', () => undefined);
  assert.equal((await gateway).code, 'ERR_LINK_TLS');
  old.destroy();
  join.close();
});

test('a peer that never comes is given 10 s', async () => {
  const clock = new ManualClock();
  const join = await startJoin();
  const opening = failure(openDataLink(options('gateway', join.port, { clock })));
  await join.first;
  clock.advance(HANDSHAKE_TIMEOUT_MS);
  const error = await opening;
  assert.deepEqual([error.code, error.step, error.retryable], ['ERR_LINK_TIMEOUT', 'tls', true]);
  join.close();
});

test('only the node of the own configuration is dialled', async () => {
  const join = await startJoin();
  const error = await failure(openDataLink(options('agent', join.port, { offer: { node: 'evil.test' } })));
  assert.equal(error.code, 'ERR_LINK_NODE');
  join.close();
  const dead = await failure(openDataLink(options('agent', join.port)));
  assert.deepEqual([dead.code, dead.step], ['ERR_LINK_DIAL', 'dial']);
});

test('a link that is given up leaves nothing behind', async () => {
  const join = await startJoin();
  const abort = new AbortController();
  const opening = failure(openDataLink({ ...options('gateway', join.port), signal: abort.signal }));
  await new Promise((resolve) => setImmediate(resolve));
  abort.abort();
  assert.equal((await opening).code, 'ERR_LINK_LOST');
  join.close();
});
