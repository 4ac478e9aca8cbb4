import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { type LinkOffer, OFFER_LIFE_MS } from '../../src/protocol/index.ts';
import { createLinkCertificate, systemClock } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  closeAll,
  type Ends,
  HOST,
  openLink,
  openSide,
  type Relay,
  startEnds,
  startRelayNode,
} from './relay-fixture.ts';

const thiefCertificate = await createLinkCertificate('thief', systemClock);

const DEADLINE_MS = 10_000;
const dials: Socket[] = [];
afterEach(() => {
  for (const socket of dials.splice(0)) socket.destroy();
});

/** How the node ends a carrier that it does not want; rejects when it keeps it. */
const reset = async (socket: Socket): Promise<string> => {
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const [error] = (await once(socket.resume(), 'error', { signal })) as [NodeJS.ErrnoException];
  return error.code ?? '';
};

const dialled = (relay: Relay): Socket => {
  const socket = connect(relay.port, HOST);
  dials.push(socket);
  socket.on('error', () => undefined);
  return socket;
};

/** Shows the token of a gateway the way a gateway does; whatever is joined to it comes behind. */
const asGateway = (relay: Relay, token: string): Socket => {
  const socket = dialled(relay);
  socket.write(`SALLYPORT/1 link ${token}\n`);
  return socket;
};

/** Shows the token of an agent the way an agent does, with a certificate of the thief's own. */
const asAgent = (relay: Relay, token: string): TLSSocket => {
  const socket = connectTls({
    socket: dialled(relay),
    ALPNProtocols: [`sp.${token}`, 'sallyport.v1'],
    minVersion: 'TLSv1.3',
    rejectUnauthorized: false,
    cert: thiefCertificate.certPem,
    key: thiefCertificate.keyPem,
  });
  socket.on('error', () => undefined);
  return socket;
};

/** The two tokens of one offer. */
const offered = async (ends: Ends): Promise<{ gateway: LinkOffer; agent: LinkOffer }> => {
  const request = { cred: ends.cred, connection: 'db', spki: ends.gatewayCertificate.spki, exclude: [] };
  const gateway = await ends.gateway.login.requestLink(request);
  assert.ok(!('refused' in gateway));
  const agent = await ends.agent.until('onOffer', ({ link_id }) => link_id === gateway.link_id);
  return { gateway, agent };
};

const openAgent = (relay: Relay, ends: Ends, offer: LinkOffer) =>
  openSide('agent', relay, offer, ends.agentCertificate, { name: 'agent-1', instance: ends.agent.instance });
const openGateway = (relay: Relay, ends: Ends, offer: LinkOffer) =>
  openSide('gateway', relay, offer, ends.gatewayCertificate, {
    name: 'gateway-1',
    instance: ends.gateway.instance,
  });

/** What the relay has put on record of the end of a link. */
const recorded = async (relay: Relay, linkId: string): Promise<string> => {
  const { type, data } = await relay.audit.until(
    (event) => /^link\.(?:closed|refused)$/.test(event.type) && event.subject.link_id === linkId,
  );
  return `${type} ${(data as { reason: string }).reason}`;
};

/** The rightful holders are locked out of nothing: the next link comes up and carries bytes. */
const nextLinkWorks = async (relay: Relay, ends: Ends): Promise<void> => {
  const { agentPeer, gatewayPeer } = await openLink(relay, ends);
  gatewayPeer.duplex.write('hello');
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const [bytes] = (await once(agentPeer.duplex.resume(), 'data', { signal })) as [Buffer];
  assert.equal(bytes.toString(), 'hello');
};

test('a token that was used is worth nothing, and the link that it made goes on', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const { offer, agentOffer, gatewayPeer, agentPeer } = await openLink(relay, ends);
  assert.equal(await reset(asGateway(relay, offer.token)), 'ECONNRESET');
  assert.equal(await reset(asAgent(relay, agentOffer.token)), 'ECONNRESET');
  assert.equal(await reset(asGateway(relay, agentOffer.token)), 'ECONNRESET', 'as the other side neither');
  gatewayPeer.duplex.write('still here');
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const [bytes] = (await once(agentPeer.duplex.resume(), 'data', { signal })) as [Buffer];
  assert.equal(bytes.toString(), 'still here');
  await closeAll(relay, ends.agent, ends.gateway);
});

test("a gateway's stolen token gets the thief joined bytes that the agent does not speak over", async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const { gateway, agent } = await offered(ends);
  const carrier = asGateway(relay, gateway.token);
  await once(carrier, 'connect');
  const thief = new TLSSocket(carrier, {
    isServer: true,
    cert: thiefCertificate.certPem,
    key: thiefCertificate.keyPem,
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['sallyport.v1'],
  });
  const stolen: Buffer[] = [];
  thief.on('error', () => undefined).on('data', (chunk: Buffer) => stolen.push(chunk));
  await assert.rejects(openAgent(relay, ends, agent), { code: 'ERR_LINK_PIN' });
  assert.equal(await reset(asGateway(relay, gateway.token)), 'ECONNRESET', 'the holder comes too late');
  assert.match(await recorded(relay, gateway.link_id), /^link\.closed (?:agent_lost|gateway_lost)$/);
  assert.equal(Buffer.concat(stolen).length, 0, 'no HELLO, no stream');
  await nextLinkWorks(relay, ends);
  await closeAll(relay, ends.agent, ends.gateway);
});

test("an agent's stolen token gets the thief joined bytes that the gateway does not speak over", async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const { gateway, agent } = await offered(ends);
  const thief = asAgent(relay, agent.token);
  const stolen: Buffer[] = [];
  thief.on('data', (chunk: Buffer) => stolen.push(chunk));
  await assert.rejects(openGateway(relay, ends, gateway), { code: 'ERR_LINK_PIN' });
  assert.match(await recorded(relay, gateway.link_id), /^link\.closed (?:agent_lost|gateway_lost)$/);
  await assert.rejects(openAgent(relay, ends, agent), 'the holder comes too late');
  assert.equal(Buffer.concat(stolen).length, 0);
  await nextLinkWorks(relay, ends);
  await closeAll(relay, ends.agent, ends.gateway);
});

test('a token shown as the other side ends its rendezvous, on record, and nothing else', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  const { gateway, agent } = await offered(ends);
  assert.equal(await reset(asGateway(relay, agent.token)), 'ECONNRESET');
  assert.equal(await recorded(relay, gateway.link_id), 'link.refused protocol_error');
  assert.equal(await reset(asGateway(relay, gateway.token)), 'ECONNRESET');
  await nextLinkWorks(relay, ends);
  await closeAll(relay, ends.agent, ends.gateway);
});

test('a token that was kept past its 15 s is worth nothing', async () => {
  const clock = new ManualClock();
  const relay = await startRelayNode({ clock });
  relay.control.heardAt = () => clock.monotonicMs();
  const ends = await startEnds(relay);
  const { gateway, agent } = await offered(ends);
  clock.advance(OFFER_LIFE_MS + 1_000);
  assert.match(await recorded(relay, gateway.link_id), /^link\.refused /);
  assert.equal(await reset(asGateway(relay, gateway.token)), 'ECONNRESET');
  assert.equal(await reset(asAgent(relay, agent.token)), 'ECONNRESET');
  await nextLinkWorks(relay, ends);
  await closeAll(relay, ends.agent, ends.gateway);
});

test('a thief who guesses tokens without end does not keep the holders from their links', async () => {
  const relay = await startRelayNode();
  const ends = await startEnds(relay);
  for (let guesses = 0; guesses < 20; guesses += 1) {
    const token = guesses.toString(16).padStart(32, '0');
    assert.equal(await reset(asGateway(relay, token)), 'ECONNRESET');
  }
  await nextLinkWorks(relay, ends);
  await closeAll(relay, ends.agent, ends.gateway);
});
