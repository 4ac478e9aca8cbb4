import assert from 'node:assert/strict';
import { isIPv4, isIPv6 } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseAddress } from '../../src/runtime/index.ts';
import { startAgentHere } from '../support/agent-in-process.ts';
import { runCommand, sallyport } from '../support/command.ts';
import { createDeployment, type Deployment, type Settings } from '../support/deployment.ts';
import { startDns } from '../support/dns-server.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { managedPlace } from '../support/managed-place.ts';
import { askOnce, dial, echo, listen, readToEnd, type SocketEnd } from '../support/sockets.ts';

// What neighbours.test.ts runs on a machine of its own.

const TARGET = '10.77.0.1';
const NEIGHBOUR = '10.77.0.2';
const METADATA = '169.254.169.254';
const LINK_LOCAL = '169.254.7.7';
const PORT = 8080;
const WEB = 'web.corp.example';

/** Where somebody answers whom no stream may reach. */
const OTHERS = [
  `${NEIGHBOUR}:${PORT}`,
  `${TARGET}:${PORT + 1}`,
  `127.0.0.1:${PORT}`,
  `${METADATA}:80`,
  `${METADATA}:${PORT}`,
  `${LINK_LOCAL}:${PORT}`,
] as const;

/** What applications ask an entrance for, that leads nowhere. */
const ASKED: readonly (readonly [host: string, port: number])[] = [
  ['printer.corp.example', PORT],
  [`sub.${WEB}`, PORT],
  [WEB, PORT + 1],
  ['localhost', PORT],
  ['127.1', PORT],
  // The target's own address is not what is listed either: its name is.
  [TARGET, PORT],
  [TARGET, PORT + 1],
  [NEIGHBOUR, PORT],
  ['127.0.0.1', PORT],
  [METADATA, 80],
  [LINK_LOCAL, PORT],
  ['::1', PORT],
  ['fe80::7', PORT],
  ['fd00:ec2::254', 80],
  [`::ffff:${NEIGHBOUR}`, PORT],
  [`::ffff:${METADATA}`, 80],
  [`64:ff9b::${METADATA}`, 80],
];

/** Where DNS moves a published name to while it is published, by connection, and who refuses that. */
const MOVED = {
  loopback: ['127.0.0.1', 'guard'],
  metadata: [METADATA, 'guard'],
  'link-local': [LINK_LOCAL, 'guard'],
  'link-local-6': ['fe80::7', 'guard'],
  mapped: ['::ffff:127.0.0.1', 'guard'],
  neighbour: [NEIGHBOUR, 'managed'],
} as const;
const hostOf = (connection: string): string => `${connection}.corp.example`;

const NOT_ALLOWED = 2;
const NETWORK_UNREACHABLE = 3;
/** listener, transparent, SOCKS5, CONNECT */
const ENTRANCES = 4;
const ADDRESS_TYPES = { ipv4: 1, name: 3, ipv6: 4 } as const;

/** A server that greets, and counts whom. */
const startOther = async (t: TestContext, address: string, greeted: string[]): Promise<void> => {
  const [host = '', port = ''] = address.split(':');
  await listen(
    t,
    (socket) => {
      greeted.push(address);
      socket.end('you should not be here');
    },
    { host, port: Number(port) },
  );
};

/** The reply code to one SOCKS5 request. */
const askSocks = async (
  t: TestContext,
  entrance: string,
  type: keyof typeof ADDRESS_TYPES,
  [host, port]: readonly [string, number],
): Promise<number> => {
  const socket = dial(t, entrance);
  const end = readToEnd(socket);
  const address =
    type === 'name' ? [host.length, ...Buffer.from(host)] : (parseAddress(host) ?? assert.fail(host));
  socket.end(
    Buffer.from([5, 1, 0, 5, 1, 0, ADDRESS_TYPES[type], ...address, Math.floor(port / 256), port % 256]),
  );
  const { bytes } = await end;
  assert.deepEqual([...bytes.subarray(0, 3)], [5, 0, 5], `${type} ${host}`);
  return bytes[3] ?? -1;
};

/** Status and reason of one CONNECT. */
const askConnect = async (
  t: TestContext,
  entrance: string,
  [host, port]: readonly [string, number],
): Promise<{ status: string; reason: string | undefined }> => {
  const socket = dial(t, entrance);
  const end = readToEnd(socket);
  const authority = `${isIPv6(host) ? `[${host}]` : host}:${port}`;
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  const text = (await end).bytes.toString('latin1');
  return {
    status: /^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1] ?? text,
    reason: /^Sallyport-Reason: (\S+)\r$/m.exec(text)?.[1],
  };
};

const refusedAt = async (deployment: Deployment, entrance: string): Promise<number> => {
  const text = await (await fetch(`${deployment.statusUrl('gateway')}/metrics`)).text();
  const line = new RegExp(
    `^sallyport_entrance_refused_total\\{entrance="${entrance}",cause="unlisted"[^}]*\\} (\\d+)$`,
    'm',
  );
  return Number(line.exec(text)?.[1] ?? 0);
};

test('neighbours of a published target', async (t) => {
  for (const address of [METADATA, LINK_LOCAL]) {
    const added = await runCommand('ip', ['address', 'add', `${address}/32`, 'dev', 'lo']);
    assert.equal(added.code, 0, added.stderr);
  }
  const greeted: string[] = [];
  await echo(t, { host: TARGET, port: PORT });
  for (const address of OTHERS) {
    await startOther(t, address, greeted);
    const { bytes } = await readToEnd(dial(t, address));
    assert.equal(
      bytes.toString(),
      'you should not be here',
      `${address}: whoever is on this machine reaches it`,
    );
  }
  assert.deepEqual(greeted.splice(0), [...OTHERS]);

  const names = [WEB, ...Object.keys(MOVED).map(hostOf)];
  const dns = await startDns(t, { 'printer.corp.example': [NEIGHBOUR] }, 53);
  for (const name of names) dns.records.set(name, [TARGET]);
  const [socksPort, webPort] = [await freePort(), await freePort()];
  const targets = Object.fromEntries(
    ['web', ...Object.keys(MOVED)].map((name) => [name, `${hostOf(name)}:${PORT}`]),
  );
  const place = managedPlace(t);
  // Policy allows by name; where an address counts, the administrator designates networks.
  place.put(
    `designated: ['${TARGET}/32:${PORT}', ${OTHERS.slice(2)
      .map((to) => `'${to.replace(':', '/32:')}'`)
      .join(', ')}]\n`,
  );
  const deployment = await createDeployment(t, {
    publish: targets,
    edit: {
      gateway: (settings) => {
        for (const connection of settings['connections'] as Settings[])
          Object.assign(connection, { target: targets[String(connection['name'])], transparent: true });
        settings['socks5'] = [{ listen: `127.0.0.1:${socksPort}` }];
        settings['http_connect'] = [{ listen: `127.0.0.1:${webPort}` }];
      },
    },
  });
  const applied = await sallyport(['--json', 'hosts', 'apply', '-c', deployment.gatewayFile]);
  assert.equal(applied.code, 0, applied.stderr);
  const block = (JSON.parse(applied.stdout) as { names: { name: string; address: string }[] }).names;
  const transparentOf = (name: string): string => block.find((row) => row.name === name)?.address ?? '';
  deployment.start('relay');
  await deployment.ready('relay');
  const files = {
    traceFile: join(deployment.directory, 'trace.jsonl'),
    faultFile: join(deployment.directory, 'faults'),
  };
  await startAgentHere(t, deployment, files, { managedLocation: place.location });
  deployment.start('gateway');
  await deployment.ready('gateway');
  const socks = `127.0.0.1:${socksPort}`;
  const connect = `127.0.0.1:${webPort}`;

  await t.test(
    'asked for by name, IPv4 and IPv6, at SOCKS5 and CONNECT: unlisted, counted and logged',
    async (t) => {
      let asked = 0;
      for (const [host, port] of ASKED) {
        const types: (keyof typeof ADDRESS_TYPES)[] = ['name'];
        if (isIPv4(host)) types.push('ipv4');
        if (isIPv6(host)) types.push('ipv6');
        for (const type of types) {
          assert.equal(await askSocks(t, socks, type, [host, port]), NOT_ALLOWED, `${type} ${host}:${port}`);
          asked += 1;
        }
        assert.deepEqual(
          await askConnect(t, connect, [host, port]),
          { status: '403', reason: 'unlisted' },
          `${host}:${port}`,
        );
      }
      assert.equal(await refusedAt(deployment, 'socks5'), asked);
      assert.equal(await refusedAt(deployment, 'http_connect'), ASKED.length);
      const said = deployment.process('gateway').output();
      assert.match(said, /client refused/);
      assert.match(said, /printer\.corp\.example:8080/);
    },
  );

  await t.test('a listener knows no destinations, and a transparent address no other port', async (t) => {
    for (const way of [deployment.listenOf('web'), `${transparentOf(WEB)}:${PORT}`, `${WEB}:${PORT}`]) {
      const asked = `CONNECT ${NEIGHBOUR}:${PORT} HTTP/1.1`;
      assert.equal(await askOnce(t, way, asked), asked, `${way}: the target itself reads it`);
    }
    for (const port of [PORT + 1, 80]) {
      const end = await readToEnd(dial(t, `${transparentOf(WEB)}:${port}`));
      assert.equal(end.how, 'ECONNREFUSED');
    }
    assert.deepEqual(
      block.filter(({ name }) => !names.includes(name)),
      [],
      'only names of gateway.yaml lead to it',
    );
  });

  await t.test('a published name that DNS moves: refused at every entrance, and in the trail', async (t) => {
    const ways: Readonly<Record<string, (name: string) => Promise<SocketEnd['how']>>> = {
      listener: async (name) => (await readToEnd(dial(t, deployment.listenOf(name)))).how,
      transparent: async (name) => (await readToEnd(dial(t, `${hostOf(name)}:${PORT}`))).how,
    };
    for (const [name, [address]] of Object.entries(MOVED)) dns.records.set(hostOf(name), [address]);
    for (const [name, [address, decidedBy]] of Object.entries(MOVED)) {
      const reason = `${decidedBy}_denied`;
      // The agent keeps an answer of DNS for a few seconds, and looks at what it publishes once a minute.
      let isWithdrawn = false;
      await eventually(`${name} is refused`, async () => {
        const answer = await askConnect(t, connect, [hostOf(name), PORT]);
        isWithdrawn = answer.reason === 'unpublished';
        assert.deepEqual(
          answer,
          isWithdrawn ? { status: '503', reason: 'unpublished' } : { status: '403', reason },
        );
        return true;
      });
      const reply = await askSocks(t, socks, 'name', [hostOf(name), PORT]);
      isWithdrawn ||= reply === NETWORK_UNREACHABLE;
      assert.equal(reply, isWithdrawn ? NETWORK_UNREACHABLE : NOT_ALLOWED, name);
      for (const [entrance, ask] of Object.entries(ways))
        assert.equal(await ask(name), 'ECONNRESET', `${name} through ${entrance}`);
      const rows = await eventually(`the denials of ${name} are in the trail`, async () => {
        const found = await deployment.rows<{
          kind: string;
          decided_by: string;
          candidates: unknown;
          count: number;
        }>(
          `select kind, decided_by, candidates, sum(decision_count)::int as count from audit.denies
             where connection = $1 group by 1, 2, 3`,
          [name],
        );
        const withdrawn = found.some(({ kind }) => kind === 'publish');
        const streams = found.reduce((sum, { kind, count }) => sum + (kind === 'stream' ? count : 0), 0);
        return withdrawn || (!isWithdrawn && streams === ENTRANCES) ? found : undefined;
      });
      for (const row of rows) {
        assert.equal(row.decided_by, decidedBy, name);
        assert.match(JSON.stringify(row.candidates), new RegExp(address.replace(/^::ffff:/, '')), name);
      }
    }
  });

  assert.deepEqual(greeted, [], 'nobody else was reached');
  const reached = await deployment.rows<{ target_addr: string }>(
    `select distinct host(target_addr) as target_addr from audit.streams`,
  );
  assert.deepEqual(reached, [{ target_addr: TARGET }]);
});
