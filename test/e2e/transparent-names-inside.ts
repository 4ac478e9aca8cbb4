import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import pg from 'pg';
import { startBackground } from '../support/background.ts';
import { findProgram, runCommand, sallyport, sallyportProgram } from '../support/command.ts';
import { createDeployment, type Settings, transparently } from '../support/deployment.ts';
import { startDns } from '../support/dns-server.ts';
import { createPrivateNetwork } from '../support/private-network.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { dial, echo, readToEnd } from '../support/sockets.ts';
import {
  startTlsPostgres,
  TLS_POSTGRES_PASSWORD as PASSWORD,
  TLS_POSTGRES_USER as USER,
} from '../support/tls-postgres.ts';

// What transparent-names.test.ts runs on a machine of its own.

const DB01 = 'db01.corp.example';
const DB02 = 'db02.corp.example';
const WEB_PORT = 443;

const HOSTS = readFileSync('/etc/hosts', 'latin1');

/** `getent DATABASE NAME`: the addresses, each once, in its order. */
const addressesOf = async (database: 'ahosts' | 'ahostsv4' | 'ahostsv6', name: string): Promise<string[]> => {
  const { stdout } = await runCommand('getent', [database, name]);
  return [...new Set(stdout.split('\n').flatMap((line) => /^\S+/.exec(line)?.[0] ?? []))];
};

test('everything on one machine', async (t) => {
  const port = await freePort();
  const echoPort = await freePort();
  const dns = await startDns(t, { [DB01]: ['10.77.0.1', '2001:db8::5'], [DB02]: ['10.77.0.2'] }, 53);
  const network = await createPrivateNetwork(t);
  const { caFile } = network;
  const addresses = [DB01, DB02].map((host) => network.addressOf(host));
  await startTlsPostgres(t, { addresses, port, ...(await network.certificate(DB01, DB02)) });
  await echo(t, { host: '10.77.0.1', port: echoPort });
  await echo(t, { host: '10.77.0.2', port: WEB_PORT });
  const targets: Readonly<Record<string, string>> = {
    orders: `${DB01}:${port}`,
    echo: `${DB01}:${echoPort}`,
    other: `${DB02}:${port}`,
    web: `${DB02}:${WEB_PORT}`,
  };
  const psql = (host: string, sql: string) =>
    runCommand(findProgram('psql') ?? 'psql', [
      `host=${host} port=${port} user=${USER} password=${PASSWORD} dbname=postgres sslmode=verify-full sslrootcert=${caFile} connect_timeout=20`,
      '-XAtc',
      sql,
    ]);
  const direct = await psql(DB01, 'select 1');
  assert.equal(direct.stdout, '1\n', `the connection string of the private network: ${direct.stderr}`);

  const deployment = await createDeployment(t, {
    publish: targets,
    edit: {
      gateway: (settings) => {
        transparently(targets)(settings);
        for (const connection of settings['connections'] as Settings[])
          if (connection['name'] === 'orders') connection['aliases'] = ['db01'];
      },
    },
  });
  const { gatewayFile } = deployment;
  const hosts = async <T>(verb: string): Promise<T> => {
    const { code, stdout, stderr } = await sallyport(['--json', 'hosts', verb, '-c', gatewayFile]);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as T;
  };

  const namesOf = async (): Promise<string[]> => {
    const { stdout, stderr } = await sallyport(['doctor', '-c', gatewayFile, '--json']);
    assert.notEqual(stdout, '', stderr);
    const { checks } = JSON.parse(stdout) as {
      checks: { check: string; state: string; detail: string; remedy: string | null }[];
    };
    return checks
      .filter(({ check }) => check === 'names')
      .map(({ state, detail, remedy }) => `${state}: ${detail}${remedy === null ? '' : ` → ${remedy}`}`);
  };

  // ---- names ----
  const [missing, direct01] = await namesOf();
  assert.match(missing ?? '', /^fail: it has not the block .*\(absent\) → .*hosts apply/);
  assert.match(direct01 ?? '', /^fail: db01\.corp\.example is 10\.77\.0\.1 .* without the tunnel/);
  const applied = await hosts<{ in_place: boolean; names: { name: string; address: string }[] }>('apply');
  assert.equal(applied.in_place, true, 'a mounted hosts file is written over');
  assert.equal(readFileSync('/etc/hosts', 'latin1').endsWith(HOSTS), true);
  const shown = await namesOf();
  assert.equal(shown.length, 4, shown.join('\n'));
  assert.ok(
    shown.every((line) => line.startsWith('pass: ')),
    shown.join('\n'),
  );
  const addressOf = (name: string): string => applied.names.find((row) => row.name === name)?.address ?? '';
  const sinkOf = (name: string): RegExp => new RegExp(`^fe80::7f4d:${name}$`);
  const askedBefore = dns.asked.length;
  for (const name of [DB01, 'db01']) {
    const [first, second, ...rest] = await addressesOf('ahosts', name);
    assert.equal(first, addressOf(DB01), 'who takes whatever there is gets the gateway first');
    assert.match(second ?? '', sinkOf('[0-9a-f]+'));
    assert.deepEqual(rest, []);
    assert.deepEqual(await addressesOf('ahostsv4', name), [addressOf(DB01)]);
    const six = await addressesOf('ahostsv6', name);
    assert.equal(six.length, 1);
    assert.match(six[0] ?? '', sinkOf('[0-9a-f]+'));
  }
  // Who wants IPv6 alone fails at once, instead of reaching the real target or waiting for it.
  const [sink = ''] = await addressesOf('ahostsv6', DB01);
  const failed = await readToEnd(dial(t, `${sink}:${port}`));
  assert.equal(failed.how, 'EINVAL');
  assert.deepEqual(dns.asked.slice(askedBefore), [], 'no look-up for a name of the block went to DNS');

  // ---- the right to a port below 1024 ----
  const weak = startBackground(t, 'setpriv', [
    ...['--bounding-set=-net_bind_service', '--inh-caps=-net_bind_service', '--', process.execPath],
    ...[sallyportProgram, 'gateway', '-c', gatewayFile],
  ]);
  await weak.said(
    /connection web \(db02\.corp\.example\) cannot listen on 127\.77\.\d+\.\d+:443: this user may not bind that port; .*CAP_NET_BIND_SERVICE.*ip_unprivileged_port_start=443 \(ERR_LISTEN_REFUSED\)/,
  );

  // ---- through the tunnel: the agent on this machine looks past the block ----
  await deployment.startAll();
  for (const host of [DB01, 'DB01.corp.example', DB02]) {
    const { stdout, stderr } = await psql(host, 'select ssl from pg_stat_ssl where pid = pg_backend_pid()');
    assert.equal(stdout, 't\n', `${host}: ${stderr}`);
  }
  const client = new pg.Client({
    ...{ host: DB01, port, user: USER, password: PASSWORD, database: 'postgres' },
    ssl: { ca: readFileSync(caFile, 'utf8') },
  });
  await client.connect();
  assert.deepEqual((await client.query('select 6 * 7 as answer')).rows, [{ answer: 42 }]);
  await client.end();
  for (const target of [targets['echo'], targets['web']]) {
    const socket = dial(t, target ?? '');
    const end = readToEnd(socket);
    socket.end('through');
    const { bytes, how } = await end;
    assert.deepEqual([how, bytes.toString()], ['fin', 'through'], target);
  }
  const decided = await eventually('every stream is in the trail', async () => {
    const rows = await deployment.rows<{ connection: string; target_addr: string; count: number }>(
      `select connection, host(target_addr) as target_addr, count(*)::int as count from audit.streams group by 1, 2 order by 1`,
    );
    return rows.reduce((sum, { count }) => sum + count, 0) === 6 ? rows : undefined;
  });
  assert.deepEqual(decided, [
    { connection: 'echo', target_addr: '10.77.0.1', count: 1 },
    { connection: 'orders', target_addr: '10.77.0.1', count: 3 },
    { connection: 'other', target_addr: '10.77.0.2', count: 1 },
    { connection: 'web', target_addr: '10.77.0.2', count: 1 },
  ]);
  assert.ok(dns.asked.slice(askedBefore).includes(`A ${DB01}`), 'the agent asked DNS past the hosts file');
  const status = await sallyport(['status', '-c', gatewayFile]);
  assert.equal(status.code, 0, status.stderr);
  const escaped = `${addressOf(DB01)}:${port}`.replaceAll('.', '\\.');
  assert.match(
    status.stdout,
    new RegExp(`transparent +${escaped} +orders +db01\\.corp\\.example db01 port ${port} +`),
  );

  // ---- a name that only the block knows is a loop, and is refused as one ----
  dns.records.delete(DB01);
  const why = await eventually('the loop is refused', async () => {
    const { stdout } = await psql(DB01, 'select 1');
    if (stdout !== '') return undefined;
    const report = await deployment.command('why', 'orders');
    return report.stdout.includes('loop') ? report.stdout : undefined;
  });
  assert.match(why, /failed with loop/);
  assert.match(why, /DNS there must know it too/);

  // ---- and back ----
  await hosts('remove');
  assert.equal(readFileSync('/etc/hosts', 'latin1'), HOSTS);
  assert.deepEqual(await addressesOf('ahosts', DB02), ['10.77.0.2']);
});
