import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { CarrierStatus } from '../../src/protocol/index.ts';
import { createAuthority, createServerCertificate, systemClock } from '../../src/runtime/index.ts';
import { type Background, startBackground } from '../support/background.ts';
import { sallyportProgram } from '../support/command.ts';
import { createDeployment, type Settings } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { interceptingAuthority, startInterceptingProxy } from '../support/intercepting-proxy.ts';
import {
  type Firewall,
  makeNamespace,
  type NetworkNamespace,
  noNamespaces,
} from '../support/network-namespace.ts';
import { askOnce } from '../support/sockets.ts';

/** The agent in one network, the gateway in another, the relay between them: the processes of a deployment. */
const RELAY = 'relay.test';
const [CONTROL, DATA, HTTPS, HTTP, PROXY] = [5671, 9352, 443, 80, 3128];
const DEADLINE_MS = 120_000;
const CREDENTIALS = 'proxy-user:proxy-password';
const ECHO = `require('net').createServer({allowHalfOpen:true},s=>{s.on('error',()=>{});s.pipe(s)}).listen(+process.argv[1],'127.0.0.1')`;

type Side = 'agent' | 'gateway';
const SIDES: readonly Side[] = ['agent', 'gateway'];

interface Status {
  readonly logins: readonly { readonly state: string; readonly port?: number }[];
  readonly carriers: readonly CarrierStatus[];
  readonly links?: readonly { readonly carrier: string; readonly port: number }[];
  readonly connections: readonly {
    readonly links?: readonly { readonly carrier: string; readonly port: number }[];
  }[];
}

const setUp = async (t: TestContext) => {
  const hosts: Record<Side, NetworkNamespace> = { agent: makeNamespace(t, 0), gateway: makeNamespace(t, 1) };
  const target = await freePort();
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target}` } });
  const file = (name: string, content: string): string => {
    const path = join(deployment.directory, name);
    writeFileSync(path, content);
    return path;
  };
  const authority = await createAuthority('networks test', systemClock);
  const certificate = await createServerCertificate(authority, [RELAY], systemClock);
  const corp = await interceptingAuthority();
  // One file for every network: the corporate authority is trusted, as its administrators see to.
  const caFile = file('networks-ca.pem', authority.certPem + corp.certPem);
  const ports = { control_port: [CONTROL, HTTPS], data_ports: [DATA, HTTPS] };
  deployment.edit('relay', (settings) => {
    settings.listen = SIDES.flatMap((side) =>
      [CONTROL, DATA, HTTPS].map((port) => `${hosts[side].near}:${port}`),
    );
    settings.public = { host: RELAY, ...ports };
    settings.tls = {
      cert_file: file('networks.pem', certificate.certPem),
      key_file: file('networks.key', certificate.keyPem),
    };
  });
  for (const side of SIDES)
    deployment.edit(side, (settings) => {
      settings.relays = [{ host: RELAY, ...ports }];
      settings.ca_file = caFile;
    });
  const listen = `${hosts.gateway.far}:${await freePort()}`;
  deployment.edit('gateway', (settings) => {
    const [connection] = settings.connections as Settings[];
    if (connection === undefined) return;
    connection.listen = listen;
    connection.clients = ['0.0.0.0/0'];
  });
  // The database is out of the agent's reach in these networks; its spool keeps what it records.
  deployment.edit('agent', (settings) => delete (settings.audit as Settings).database_url_file);

  const echo = hosts.agent.start(process.execPath, ['-e', ECHO, String(target)]);
  deployment.start('relay');
  await deployment.ready('relay');

  const running = new Map<Side, Background>();
  const get = async (side: Side, path: string): Promise<string> => {
    const { code, stdout } = await hosts[side].run('curl', ['-sS', `${deployment.statusUrl(side)}${path}`]);
    if (code !== 0) throw new Error(`${side} does not answer: ${running.get(side)?.output().slice(-2_000)}`);
    return stdout;
  };
  return {
    hosts,
    deployment,
    corp,
    file,
    listen,
    echo,
    status: async (side: Side) => JSON.parse(await get(side, '/status')) as Status,
    /** Begins anew in a network: nothing is remembered. */
    start(firewall: Firewall, edit: (side: Side, settings: Settings) => void = () => undefined) {
      for (const side of SIDES) {
        hosts[side].firewall(firewall);
        deployment.edit(side, (settings) => edit(side, settings));
        rmSync(join(deployment.directory, 'state', side, 'carriers.json'), { force: true });
        const args = [sallyportProgram, side, '-c', join(deployment.directory, `${side}.yaml`)];
        running.set(side, hosts[side].start(process.execPath, args, deployment.directory));
      }
    },
    /** Streams work in this network, by these ports and carriers; the agent listens on loopback alone. */
    async works(
      control: number,
      carrier: 'tcp' | 'websocket',
      port: number,
    ): Promise<Record<Side, CarrierStatus>> {
      await eventually(
        'a stream works',
        () => askOnce(t, listen, 'hello').catch(() => undefined),
        DEADLINE_MS,
      );
      for (let asked = 0; asked < 3; asked += 1) assert.equal(await askOnce(t, listen, 'again'), 'again');
      const found = {} as Record<Side, CarrierStatus>;
      for (const side of SIDES) {
        const { logins, carriers, links, connections } = JSON.parse(await get(side, '/status')) as Status;
        assert.equal(logins[0]?.port, control, `the ${side}'s control link`);
        const [link] = links ?? connections.flatMap((connection) => connection.links ?? []);
        assert.deepEqual([link?.carrier, link?.port], [carrier, port], `the ${side}'s data link`);
        const [ways] = carriers;
        assert.ok(ways !== undefined);
        found[side] = ways;
      }
      const { stdout } = await hosts.agent.run('ss', ['-Hltn']);
      const listening = stdout
        .trim()
        .split('\n')
        .map((line) => line.split(/\s+/)[3] ?? '');
      assert.ok(listening.length >= 2, stdout);
      for (const address of listening)
        assert.match(address, /^(127\.|\[::1\])/, 'nothing listens beyond loopback');
      return found;
    },
    async stop() {
      await Promise.all([...running.values()].map((process) => process.end()));
      running.clear();
    },
  };
};

const failedPorts = ({ control }: CarrierStatus): number[] => control.tried.map(({ port }) => port);
const stateOf = ({ data }: CarrierStatus, carrier: string, port: number) =>
  data.find((way) => way.carrier === carrier && way.port === port);

const skip = noNamespaces();

test('agents and gateways in five networks', { skip }, async (t) => {
  const world = await setUp(t);
  const { hosts } = world;
  for (const side of SIDES) hosts[side].hosts({ [RELAY]: hosts[side].near });

  await t.test('5671, 9352, 443 and 80 are let out', async () => {
    world.start({ ports: [CONTROL, DATA, HTTPS, HTTP], otherwise: 'dropped' });
    const ways = await world.works(CONTROL, 'tcp', DATA);
    for (const side of SIDES) assert.deepEqual(failedPorts(ways[side]), []);
    await world.stop();
  });

  await t.test('443 alone is let out', async () => {
    world.start({ ports: [HTTPS], otherwise: 'dropped' });
    const ways = await world.works(HTTPS, 'tcp', HTTPS);
    for (const side of SIDES) {
      assert.deepEqual(failedPorts(ways[side]), [CONTROL]);
      assert.match(ways[side].control.tried[0]?.error ?? '', /no answer within/);
      assert.equal(stateOf(ways[side], 'tcp', HTTPS)?.state, 'works');
    }
    await world.stop();
  });

  await t.test('a proxy alone is let out, which wants credentials and passes 443 on', async () => {
    const config = world.file(
      'tinyproxy.conf',
      [
        `Port ${PROXY}`,
        ...SIDES.map((side) => `Listen ${hosts[side].near}`),
        'Timeout 600',
        `BasicAuth ${CREDENTIALS.replace(':', ' ')}`,
        `ConnectPort ${HTTPS}`,
        'LogLevel Info',
        '',
      ].join('\n'),
    );
    const names = world.file('proxy-hosts', `127.0.0.1 localhost\n${hosts.agent.near} ${RELAY}\n`);
    // In a mount namespace, so that the proxy knows the relay's name.
    const script = `mount --bind ${names} /etc/hosts && exec tinyproxy -d -c ${config}`;
    const proxy = startBackground(t, 'unshare', ['-m', 'sh', '-c', script]);
    await proxy.said(/Accepting connections/);
    const credentialsFile = world.file('proxy-credentials', `${CREDENTIALS}\n`);
    world.start({ ports: [PROXY], otherwise: 'refused' }, (side, settings) => {
      const url = `http://${hosts[side].near}:${PROXY}`;
      settings.proxy = { url, credentials_file: credentialsFile };
    });
    const ways = await world.works(HTTPS, 'tcp', HTTPS);
    for (const side of SIDES) {
      assert.equal(ways[side].proxy, `http://${hosts[side].near}:${PROXY}`);
      assert.match(ways[side].control.tried[0]?.error ?? '', /^proxy answered 403/);
    }
    await world.stop();
    for (const side of SIDES) world.deployment.edit(side, (settings) => delete settings.proxy);
    await proxy.end();
  });

  await t.test('443 alone is let out, and what ends TLS there is trusted', async () => {
    for (const side of SIDES) {
      await startInterceptingProxy(t, {
        authority: world.corp,
        names: [RELAY],
        target: { host: hosts[side].near, port: HTTPS },
        listen: { host: hosts[side].nearOther, port: HTTPS },
      });
      hosts[side].hosts({ [RELAY]: hosts[side].nearOther });
    }
    world.start({ ports: [HTTPS], otherwise: 'refused' });
    const ways = await world.works(HTTPS, 'websocket', HTTPS);
    for (const side of SIDES) {
      assert.equal(ways[side].control.intercepted_by, 'Corp Inspection CA');
      assert.equal(stateOf(ways[side], 'websocket', HTTPS)?.intercepted_by, 'Corp Inspection CA');
      assert.equal(stateOf(ways[side], 'tcp', HTTPS)?.state, 'failed');
    }
    await world.stop();
    for (const side of SIDES) hosts[side].hosts({ [RELAY]: hosts[side].near });
  });

  await t.test('nothing is let out for a while, then 443', async () => {
    world.start({ ports: [], otherwise: 'refused' });
    for (const side of SIDES) {
      await eventually(
        `the ${side} has tried both ports`,
        async () => {
          const [ways] = (await world.status(side)).carriers;
          return ways?.control.port === null && failedPorts(ways).length === 2 ? true : undefined;
        },
        DEADLINE_MS,
      );
    }
    for (const side of SIDES) hosts[side].firewall({ ports: [HTTPS], otherwise: 'refused' });
    await world.works(HTTPS, 'tcp', HTTPS);
    // A restart begins with what worked last.
    for (const side of SIDES) {
      const kept = readFileSync(join(world.deployment.directory, 'state', side, 'carriers.json'), 'utf8');
      assert.match(kept, /"control_port":443/);
    }
    await world.stop();
  });
});
