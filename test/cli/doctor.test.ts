import { environmentProxy } from '../../src/protocol/index.ts';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { auditDatabaseCheck } from '../../src/cli/doctor/database-checks.ts';
import { type Check, type Line, runCheck } from '../../src/cli/doctor/line.ts';
import { directoryCheck, listenerCheck, spoolCheck } from '../../src/cli/doctor/machine-checks.ts';
import { relayChecks } from '../../src/cli/doctor/relay-checks.ts';
import { doctorExit } from '../../src/cli/doctor/run.ts';
import { targetCheck } from '../../src/cli/doctor/target-checks.ts';
import { Resolver } from '../../src/agent/resolver.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { missingPrograms, sallyport } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startPostgres } from '../support/postgres.ts';
import { selfSigned } from '../support/services.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const skip = missingPrograms({ openssl: 'openssl' });

const listening = async (t: TestContext, server: Server): Promise<number> => {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as { port: number }).port;
};

const linesOf = async (checks: readonly Check[]): Promise<Line[]> =>
  (await Promise.all(checks.map((one) => runCheck(one, systemClock)))).flat();

const GUARD = {
  allowLoopbackPorts: new Set<number>(),
  ownListeners: [],
  allowAuditDatabase: false,
};

/** What doctor says of a target on loopback, at a port that is taken for `port`. */
const target = async (port: number, host = '127.0.0.1'): Promise<Line> => {
  const agent = {
    resolver: new Resolver(systemClock, () => Promise.resolve(['127.0.0.1'])),
    guard: { ...GUARD, allowLoopbackPorts: new Set([port]) },
  };
  const known = { connection: 'db', target: { host, port }, from: 'given' };
  const [line] = await linesOf([targetCheck(known, agent, systemClock)]);
  assert.ok(line);
  return line;
};

const relayLines = (
  port: number,
  caFile: string,
  revocation: 'soft' | 'hard' = 'soft',
  webSocketPort?: number,
): Promise<Line[]> =>
  linesOf(
    relayChecks({
      relays: [{ host: 'localhost', control_port: port, data_ports: [port], websocket_port: webSocketPort }],
      ca: readFileSync(caFile, 'utf8'),
      caFile,
      revocation,
      clock: systemClock,
      proxies: environmentProxy(),
    }),
  );

const one = (lines: readonly Line[], check: string): Line => {
  const found = lines.find((line) => line.check === check);
  assert.ok(found, JSON.stringify(lines));
  return found;
};

test('an intercepted relay is called so, with what that means', { skip }, async (t) => {
  const [inspecting, expected] = [selfSigned(t), selfSigned(t)];
  const proxy = createHttpsServer({
    cert: readFileSync(inspecting.certFile),
    key: readFileSync(inspecting.keyFile),
  });
  const port = await listening(t, proxy);
  const lines = await relayLines(port, expected.certFile);
  const line = one(lines, 'tls');
  assert.equal(line.state, 'fail');
  assert.match(
    line.detail,
    /^intercepted: the certificate is issued by "CN=localhost", which is no authority of ca_file/,
  );
  assert.match(line.detail, /it is a relay in an attacker's hands unless both ends are enrolled$/);
  assert.match(line.remedy ?? '', /exempted from TLS inspection/);
  assert.equal(one(lines, 'node').state, 'fail');
  assert.equal(doctorExit(lines), 1);
});

test('a clock that is wrong by more than the limit fails, one that is right passes', { skip }, async (t) => {
  const own = selfSigned(t);
  let skewMs = 0;
  const server = createHttpsServer(
    { cert: readFileSync(own.certFile), key: readFileSync(own.keyFile) },
    (_request, response) => {
      response.setHeader('date', new Date(Date.now() + skewMs).toUTCString());
      response.end();
    },
  );
  const port = await listening(t, server);
  assert.equal(one(await relayLines(port, own.certFile), 'clock').state, 'pass');
  skewMs = 3_600_000;
  const line = one(await relayLines(port, own.certFile), 'clock');
  assert.equal(line.state, 'fail');
  assert.match(
    line.detail,
    /^the clock of this host is (3599|36\d\d) s behind that of the relay; the limit is 60 s$/,
  );
  assert.match(one(await relayLines(port, own.certFile, 'hard'), 'tls').detail, /issued by/);
});

test('a proxy that asks for a user is told apart from one that refuses', { skip }, async (t) => {
  const own = selfSigned(t);
  const proxy = createHttpServer();
  let status = '407 Proxy Authentication Required';
  proxy.on('connect', (_request, socket) => socket.end(`HTTP/1.1 ${status}\r\n\r\n`));
  const port = await listening(t, proxy);
  const directory = temporaryDirectory(t, 'doctor');
  const key = Buffer.alloc(32).toString('base64');
  writeFileSync(
    join(directory, 'gateway.yaml'),
    `namespace: relay.example.com
name: gw
state_dir: state
ca_file: ${own.certFile}
relays: [{host: relay.example.com, control_port: 5671, data_ports: [9352, 443]}]
connections:
  - {name: db, listen: '127.0.0.1:0', connection_string: 'Endpoint=sb://relay.example.com/;SharedAccessKeyName=send;SharedAccessKey=${key};EntityPath=db'}
status: {listen: '127.0.0.1:${String(await freePort())}'}
`,
  );
  const doctor = async (): Promise<{ code: number | null; checks: Line[] }> => {
    const ran = await sallyport(['doctor', '-c', join(directory, 'gateway.yaml'), '--json'], {
      env: { HTTPS_PROXY: `http://127.0.0.1:${String(port)}`, NO_PROXY: '' },
    });
    assert.notEqual(ran.stdout, '', ran.stderr);
    return { code: ran.code, checks: (JSON.parse(ran.stdout) as { checks: Line[] }).checks };
  };
  const asked = await doctor();
  assert.equal(asked.code, 3);
  assert.match(
    one(asked.checks, 'proxy').detail,
    /relay\.example\.com through 127\.0\.0\.1:\d+, without a user/,
  );
  const ports = asked.checks.filter(({ check }) => check === 'port');
  assert.deepEqual(ports.map(({ state, subject }) => `${state} ${subject}`).sort(), [
    'fail relay.example.com:5671',
    'warn relay.example.com:443',
    'warn relay.example.com:9352',
  ]);
  assert.match(
    ports[0]?.remedy ?? '',
    /^the proxy asks for a user: put http:\/\/USER:PASSWORD@HOST:PORT into HTTPS_PROXY/,
  );
  assert.equal(one(asked.checks, 'key').state, 'pass');
  assert.equal(one(asked.checks, 'listener').state, 'pass');
  assert.doesNotMatch(JSON.stringify(asked.checks), new RegExp(key), 'no secret is shown');
  status = '403 Forbidden';
  const refused = await doctor();
  assert.match(one(refused.checks, 'port').remedy ?? '', /let it CONNECT to relay\.example\.com:5671/);
});

test('a database that records is told from one that does not', async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.stop());
  const url = await postgres.createDatabase();
  const [empty] = await linesOf([auditDatabaseCheck(url, undefined)]);
  assert.equal(empty?.state, 'fail');
  assert.match(empty.remedy ?? '', /sallyport migrate/);
  const wrong = new URL(url);
  wrong.pathname = '/nowhere';
  const [none] = await linesOf([auditDatabaseCheck(wrong.href, undefined)]);
  assert.match(none?.remedy ?? '', /there is no such database/);
  assert.equal(doctorExit([none].flatMap((line) => line ?? [])), 3);
  const { code, stderr } = await sallyport(['migrate', '--database', url]);
  assert.equal(code, 0, stderr);
  const lines = await linesOf([auditDatabaseCheck(url, '9999_of_tomorrow')]);
  assert.ok(
    lines.some(({ state, detail }) => state === 'warn' && /owns the schema/.test(detail)),
    JSON.stringify(lines),
  );
  assert.ok(
    lines.some(({ state, detail }) => state === 'fail' && /this version has 9999_of_tomorrow/.test(detail)),
  );

  const { port } = new URL(url);
  const line = await target(Number(port));
  assert.equal(line.state, 'pass', 'its port says nothing of what it is');
});

test('what a target says is read by its protocol', async (t) => {
  const { heardFrom, protocolOf, questionFor } = await import('../../src/cli/doctor/target-hints.ts');
  const postgres = await startPostgres();
  t.after(() => postgres.stop());
  const { port } = new URL(await postgres.createDatabase());
  const { connect } = await import('node:net');
  const socket = connect(Number(port), '127.0.0.1');
  socket.write(questionFor('postgresql', '') ?? '');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  assert.match(heardFrom('postgresql', answer).text, /^PostgreSQL, (and it takes TLS|without TLS)/);
  assert.equal(protocolOf(1433), 'sql server');
  const greeting = Buffer.concat([Buffer.from([74, 0, 0, 0, 10]), Buffer.from('10.11.6-MariaDB\0rest')]);
  assert.equal(heardFrom('mysql', greeting).text, 'MySQL or MariaDB 10.11.6-MariaDB greets');
  const blocked = Buffer.concat([
    Buffer.from([70, 0, 0, 0, 0xff, 0x6a, 0x04]),
    Buffer.from("Host '10.1.2.3' is not allowed to connect"),
  ]);
  assert.match(heardFrom('mysql', blocked).remedy ?? '', /grant a user for this agent's address/);
  assert.match(
    heardFrom('redis', Buffer.from('-DENIED Redis is running in protected mode\r\n')).remedy ?? '',
    /requirepass/,
  );
  assert.equal(heardFrom('redis', Buffer.from('-NOAUTH Authentication required.\r\n')).remedy, undefined);
  assert.equal(heardFrom('sql server', Buffer.from([4, 1])).text, 'SQL Server answers');
  assert.match(heardFrom('sql server', Buffer.from('HTTP')).text, /does not answer as SQL Server/);
  assert.equal(heardFrom('unknown', Buffer.from('SSH-2.0-x\r\n')).text, 'it says "SSH-2.0-x"');
  assert.equal(heardFrom('unknown', Buffer.from([0, 1, 2])).text, 'it says "3 bytes of no text"');
});

test('a target: speaking, silent, away, in a loop', async (t) => {
  const speaking = await listening(
    t,
    createServer((socket) => socket.write('220 hello\r\n')),
  );
  assert.match((await target(speaking)).detail, /it says "220 hello"/);
  const gone = createServer();
  gone.listen(0, '127.0.0.1');
  await once(gone, 'listening');
  const { port } = gone.address() as { port: number };
  gone.close();
  await once(gone, 'close');
  const away = await target(port, 'sql01.corp.example');
  assert.deepEqual([away.state, away.isOutOfReach], ['fail', true]);
  assert.match(away.remedy ?? '', /^nobody listens there: see that the service runs/);
  const agent = {
    resolver: new Resolver(systemClock),
    guard: { ...GUARD, ownListeners: [{ address: '192.0.2.1', port: 1433 }] },
  };
  const known = { connection: 'db', target: { host: '192.0.2.1', port: 1433 }, from: 'given' };
  const [loop] = await linesOf([targetCheck(known, agent, systemClock)]);
  assert.match(loop?.detail ?? '', /loop: own_listener/);
  const browser = await target(1434);
  assert.equal(browser.state, 'warn');
  assert.match(browser.remedy ?? '', /publish the static TCP port of the instance/);
});

test('directories, spools and listeners', async (t) => {
  const directory = temporaryDirectory(t, 'doctor');
  const spool = join(directory, 'spool');
  assert.match((await linesOf([directoryCheck('state', spool)]))[0]?.detail ?? '', /made at the first start/);
  assert.equal((await linesOf([spoolCheck(spool)]))[0]?.state, 'pass');
  mkdirSync(spool, { mode: 0o700 });
  assert.deepEqual(
    (await linesOf([directoryCheck('state', spool)])).map(({ state }) => state),
    ['pass'],
  );
  const chain = '0197a3c0-0000-7000-8000-000000000001';
  const head = { v: 1, chain, batch: 4, acknowledged: { chain, batch: 3 } };
  writeFileSync(join(spool, 'head.json'), JSON.stringify(head));
  assert.match((await linesOf([spoolCheck(spool)]))[0]?.detail ?? '', /the database has 3 of 4 batches/);
  writeFileSync(join(spool, 'head.json'), JSON.stringify({ ...head, acknowledged: null }));
  assert.equal((await linesOf([spoolCheck(spool)]))[0]?.state, 'warn');
  writeFileSync(join(spool, 'head.json'), 'no json');
  assert.equal((await linesOf([spoolCheck(spool)]))[0]?.state, 'fail');

  const taken = await listening(t, createServer());
  const listen = `127.0.0.1:${String(taken)}`;
  const never = (): Promise<boolean> => Promise.resolve(false);
  assert.match((await linesOf([listenerCheck('db', listen, never)]))[0]?.remedy ?? '', /ss -ltnp/);
  assert.equal((await linesOf([listenerCheck('db', listen, () => Promise.resolve(true))]))[0]?.state, 'pass');
  assert.equal((await linesOf([listenerCheck('db', '127.0.0.1:0', never)]))[0]?.state, 'pass');
});

test('a check that does not end is a failed line, and so is one that throws', async () => {
  const clock = new ManualClock();
  const stuck = runCheck({ check: 'x', subject: 'y', run: () => new Promise(() => undefined) }, clock);
  clock.advance(20_000);
  assert.match((await stuck)[0]?.detail ?? '', /^not done within 20 s$/);
  const thrown = await runCheck(
    { check: 'x', subject: 'y', run: () => Promise.reject(new Error('boom')) },
    clock,
  );
  assert.deepEqual(
    thrown.map(({ state, detail }) => [state, detail]),
    [['fail', 'boom']],
  );
});

test('the port of the WebSocket carrier is tried too, and is one that others stand in for', {
  skip,
}, async (t) => {
  const port = await listening(
    t,
    createServer((socket) => socket.destroy()),
  );
  const webSocketPort = await freePort();
  const { certFile } = selfSigned(t);
  const ports = (lines: readonly Line[]): string[] =>
    lines
      .filter(({ check }) => check === 'port')
      .map(({ subject, state, detail }) => `${subject} ${state} ${detail.replace(/:.*/, '')}`);
  assert.deepEqual(ports(await relayLines(port, certFile, 'soft', webSocketPort)), [
    `localhost:${port} pass control and data links`,
    `localhost:${webSocketPort} warn data links in a WebSocket`,
  ]);
  assert.deepEqual(ports(await relayLines(port, certFile)), [
    `localhost:${port} pass control and data links`,
  ]);
});
