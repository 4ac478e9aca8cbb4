import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CarrierBook } from '../../src/protocol/carrier/carrier-book.ts';
import { readClientHello } from '../../src/protocol/carrier/client-hello.ts';
import {
  configuredProxy,
  type ProxyFor,
  proxySettingsSchema,
  type RelayNodeConfig,
  type Side,
} from '../../src/protocol/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { startConnectProxy } from '../support/connect-proxy.ts';
import { freePort } from '../support/free-port.ts';
import { readToEnd } from '../support/sockets.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import {
  CA,
  credential,
  HOST,
  openLink,
  startEnds,
  startRelayNode,
  TestLogin,
  TLS,
} from './relay-fixture.ts';

const CREDENTIALS = 'user:pa:ss wörd';

const carriersOf = (node: RelayNodeConfig, side: Side, proxies: ProxyFor) => {
  const options = { side, ca: CA, stateDir: undefined, clock: systemClock, logger: silentLogger, proxies };
  return new CarrierBook({ nodes: [node], ...options }).of(node.host);
};

for (const isSecure of [false, true]) {
  for (const carrier of ['tcp', 'websocket'] as const) {
    test(`control and data links (${carrier}) go through a proxy ${isSecure ? 'over TLS' : 'without TLS'}, which sees TLS 1.3 of the agent`, async (t) => {
      const relay = await startRelayNode();
      const proxy = await startConnectProxy(t, {
        credentials: CREDENTIALS,
        ...(isSecure ? { tls: TLS } : {}),
      });
      const directory = temporaryDirectory(t, 'proxy');
      const [credentialsFile, caFile] = [join(directory, 'credentials'), join(directory, 'ca.pem')];
      writeFileSync(credentialsFile, `${CREDENTIALS}\n`);
      writeFileSync(caFile, CA);
      const proxies = configuredProxy(
        proxySettingsSchema.parse({
          url: `${isSecure ? 'https' : 'http'}://${HOST}:${proxy.port}`,
          credentials_file: credentialsFile,
          ca_file: caFile,
        }),
      );
      const config = {
        ...relay.config,
        ...(carrier === 'tcp' ? {} : { data_ports: [await freePort()] }),
        websocket_port: relay.port,
      };
      const way = (side: Side) => ({ config, carriers: carriersOf(config, side, proxies) });
      const ends = await startEnds(relay, 'k_send', {
        agent: way('agent').carriers,
        gateway: way('gateway').carriers,
      });
      assert.equal(proxy.tunnels.length >= 2, true, 'both control links went through it');
      const before = proxy.tunnels.length;
      const { gatewayPeer, agentPeer } = await openLink(relay, ends, {
        gateway: way('gateway'),
        agent: way('agent'),
      });
      assert.equal(agentPeer.carrier, carrier);
      assert.ok(proxy.tunnels.length >= before + 2, 'and both carriers');

      const got = new Promise<string>((resolve) => {
        agentPeer.duplex.once('data', (chunk: Buffer) => resolve(chunk.toString()));
      });
      agentPeer.duplex.resume();
      gatewayPeer.duplex.write('through the proxy');
      assert.equal(await got, 'through the proxy');
      if (carrier === 'tcp') {
        const hellos = proxy.firstBytes.map(readClientHello);
        assert.ok(
          hellos.some((hello) => hello.kind === 'hello' && hello.firstProtocol?.startsWith('sp.') === true),
          "the agent's carrier is TLS from its first byte",
        );
      }
      // What the proxy was asked is no part of the link: both ends count the same.
      const closed = relay.audit.until((event) => event.type === 'link.closed');
      const bothEnded = Promise.all([readToEnd(gatewayPeer.duplex), readToEnd(agentPeer.duplex)]);
      gatewayPeer.duplex.end();
      await once(agentPeer.duplex, 'end');
      agentPeer.duplex.end();
      await bothEnded;
      const { bytes_up: up, bytes_down: down } = (await closed).data as {
        bytes_up?: number;
        bytes_down?: number;
      };
      assert.deepEqual({ up, down }, agentPeer.carrierBytes());
    });
  }
}

test('407 is said plainly in the state of the login; excluded nodes are dialled directly', async (t) => {
  const relay = await startRelayNode();
  const proxy = await startConnectProxy(t, { credentials: CREDENTIALS });
  const login = (url: string, noProxy: string[] = []): TestLogin => {
    const proxies = configuredProxy(proxySettingsSchema.parse({ url, no_proxy: noProxy }));
    const carriers = carriersOf(relay.config, 'agent', proxies);
    return new TestLogin(relay.config, 'agent', 'agent-1', [credential('k_listen', 'db')], { carriers });
  };
  const address = `http://${HOST}:${proxy.port}`;
  for (const [url, detail] of [
    [
      address,
      /^proxy answered 407: 127\.0\.0\.1:\d+ wants credentials, in its address or in credentials_file$/,
    ],
    [
      address.replace('//', '//user:wrong@'),
      /^proxy answered 407: 127\.0\.0\.1:\d+ refuses the credentials that it was given$/,
    ],
  ] as const) {
    const refused = login(url);
    refused.login.start();
    const down = await refused.until('onDown');
    assert.equal(down.code, 'ERR_CARRIER_PROXY');
    assert.match(down.detail, detail);
  }
  assert.ok(proxy.refused() >= 2);
  const direct = login(address, ['127.0.0.0/8']);
  direct.login.start();
  await direct.until('onAttached');
  assert.deepEqual(proxy.tunnels, []);
});

test('a proxy over TLS whose certificate nobody vouches for is not used', async (t) => {
  const relay = await startRelayNode();
  const proxy = await startConnectProxy(t, { tls: TLS });
  const proxies = configuredProxy(proxySettingsSchema.parse({ url: `https://${HOST}:${proxy.port}` }));
  const carriers = carriersOf(relay.config, 'agent', proxies);
  const login = new TestLogin(relay.config, 'agent', 'agent-1', [credential('k_listen', 'db')], { carriers });
  login.login.start();
  const down = await login.until('onDown');
  assert.match(down.detail, /^no TLS to the proxy 127\.0\.0\.1:\d+: /);
  assert.deepEqual(proxy.tunnels, []);
});
