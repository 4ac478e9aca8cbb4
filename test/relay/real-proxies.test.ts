import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { CONTROL_PATH } from '../../src/protocol/index.ts';
import {
  HTTP_PROXY_ADDRESS,
  startHaproxy,
  startNginxStream,
  STREAM_PROXY_ADDRESS,
} from '../support/services.ts';
import { CA, closeAll, HOST, openLink, type Relay, startEnds, startRelayNode, TLS } from './relay-fixture.ts';

const TRUSTED = [{ address: STREAM_PROXY_ADDRESS, sends: 'proxy_protocol' }, HTTP_PROXY_ADDRESS] as const;

/** Logs in and joins a link over one port of a proxy, for control and data alike. */
const meetOver = async (relay: Relay, port: number): Promise<void> => {
  const config = { host: HOST, control_port: port, data_ports: [port] };
  const ends = await startEnds({ ...relay, config });
  const { agentOffer, gatewayPeer, agentPeer } = await openLink({ config }, ends);
  assert.equal(agentOffer.source_address, HOST);
  gatewayPeer.duplex.write('ping');
  const [up] = (await once(agentPeer.duplex.resume(), 'data')) as [Buffer];
  assert.equal(up.toString(), 'ping');
  await closeAll(relay, ends.agent, ends.gateway);
};

test('behind a real HAProxy with send-proxy-v2 the source is the client, on one port for everything', async (t) => {
  const relay = await startRelayNode({ trustedProxies: TRUSTED });
  const { tcpPort } = await startHaproxy(t, relay.port, { ...TLS, ca: CA });
  await meetOver(relay, tcpPort);
});

test('behind a real nginx with proxy_protocol, which is version 1, as well', async (t) => {
  const relay = await startRelayNode({ trustedProxies: TRUSTED });
  await meetOver(relay, await startNginxStream(t, relay.port));
});

test('behind a real HAProxy in mode http the source is what it adds to X-Forwarded-For', async (t) => {
  const relay = await startRelayNode({ trustedProxies: TRUSTED });
  const { httpsPort } = await startHaproxy(t, relay.port, { ...TLS, ca: CA });
  const socket = new WebSocket(`wss://${HOST}:${httpsPort}${CONTROL_PATH}`, 'sallyport.v1', {
    ca: CA,
    headers: {
      authorization: 'key:k_send',
      'sallyport-connection': 'db',
      'sallyport-role': 'gateway',
      'x-forwarded-for': '6.6.6.6',
    },
  });
  await once(socket, 'open');
  assert.equal(relay.control.verifying.at(-1)?.source, HOST, 'not what the client said');
  socket.terminate();
  await closeAll(relay);
});
