import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createServer, type TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import type { AuditLog, SinkStatus } from '../../src/audit/index.ts';
import { syslogSinkSchema } from '../../src/audit/sink/sink-settings.ts';
import { startBackground } from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type TcpProxy, startTcpProxy } from '../support/tcp-proxy.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';
import { auditDatabase, decision, openLog, rowsOf } from './audit-fixture.ts';
import { missingRsyslog, placeOf, startRsyslog, type TlsFixture, tlsFixture } from './syslog-receiver.ts';

const FLUSH_MS = 10_000;
const skip = missingRsyslog;

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

const settingsFor = (port: number, caFile: string, more: object = {}) =>
  syslogSinkSchema.parse({
    address: `localhost:${port}`,
    ca_file: caFile,
    confirm_seconds: 0.2,
    ...more,
  });

const statusOf = (log: AuditLog): SinkStatus => {
  const [status] = log.health().sinks;
  if (status === undefined) throw new Error('no sink has told of itself yet');
  return status;
};

/** Events of a chain, from the first. */
const places = (chain: string, count: number): string[] =>
  Array.from({ length: count }, (_, n) => `${chain}/${n + 1}`);

/** Each place once, in the order in which it was first seen. */
const firstSeen = (seen: readonly string[]): string[] => [...new Set(seen)];

const logLines = (): { lines: { msg: string; error?: string }[]; logger: pino.Logger } => {
  const lines: { msg: string; error?: string }[] = [];
  const write = (text: string): void => void lines.push(JSON.parse(text) as { msg: string });
  return { lines, logger: pino({ level: 'info' }, { write }) };
};

/** A TLS server that does with a connection what it is told. */
const startTlsServer = async (
  t: Closer,
  tls: TlsFixture,
  onConnection: (socket: TLSSocket) => void,
): Promise<number> => {
  const { certFile, keyFile } = await tls.certificate('scripted', ['localhost']);
  const sockets = new Set<TLSSocket>();
  const listener = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    listener.close();
  });
  return (listener.address() as { port: number }).port;
};

test('rsyslog gets every event over TLS, in order, and what it is about', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  const tls = await tlsFixture(directory);
  const certificate = await tls.certificate('server', ['localhost']);
  const receiver = await startRsyslog(t, directory, { caFile: tls.caFile, ...certificate });
  const log = await openLog(directory, {
    sinks: { syslog: settingsFor(receiver.port, tls.caFile, { max_message_bytes: 65_536 }) },
  });
  t.after(() => log.close());
  for (let n = 0; n < 450; n += 1) log.note(decision(n, n % 10 !== 0));
  await log.flush(FLUSH_MS);
  await eventually('all are sent', () => (statusOf(log).sent === 452 ? true : undefined));
  const lines = receiver.lines();
  assert.deepEqual(lines.map(placeOf), places(log.chainId, 452));
  assert.deepEqual(statusOf(log), {
    name: 'syslog',
    state: 'ok',
    sent: 452,
    failed: 0,
    dropped: 0,
    unconfirmed: 0,
    backlog_events: 0,
    backlog_bytes: 0,
  });
  const denied = lines.find(({ sd }) => sd.includes('action="denied"'));
  const event = JSON.parse(denied?.msg ?? '') as { type: string; at: string; data: { allow: boolean } };
  assert.deepEqual(
    [denied?.pri, denied?.app, denied?.procid, denied?.msgid, event.type, event.data.allow],
    ['110', 'sallyport-agent', 'instance-1', 'stream.decision', 'stream.decision', false],
  );
  assert.equal(Date.parse(denied?.time ?? ''), Date.parse(event.at));
  assert.match(denied?.sd ?? '', /^\[sallyport@32473 .* reason="policy_denied" .* connection="orders-db" /);
});

test('a receiver that comes late gets everything; what it missed frees no disk before', {
  skip,
}, async (t) => {
  const directory = temporaryDirectory(t);
  const { owner, writer } = await auditDatabase(server);
  const tls = await tlsFixture(directory);
  const port = await freePort();
  const { lines, logger } = logLines();
  const sinks = { syslog: settingsFor(port, tls.caFile) };
  const first = await openLog(directory, { database: { url: writer }, sinks, logger });
  t.after(() => first.close());
  for (let n = 0; n < 300; n += 1) first.note(decision(n));
  assert.equal(await first.flush(FLUSH_MS), true);
  await eventually('it fails', () => (statusOf(first).state === 'failing' ? true : undefined));
  await eventually('it fails again', () => (statusOf(first).failed >= 2 ? true : undefined));
  assert.equal(first.available(), true);
  await first.close();
  const [{ n: rows }] = (await rowsOf(owner, 'select count(*)::int as n from audit.event')) as [
    { n: number },
  ];
  assert.ok(rows >= 302, 'the database has everything while the receiver is away');
  assert.equal(lines.filter(({ msg }) => msg.startsWith('live sink does not take')).length, 1);

  const again = await openLog(directory, { database: { url: writer }, sinks, logger });
  t.after(() => again.close());
  const certificate = await tls.certificate('server', ['localhost']);
  const receiver = await startRsyslog(t, directory, { caFile: tls.caFile, ...certificate }, port);
  await eventually('all are there', async () => {
    const all = await rowsOf(owner, 'select chain_id, seq from audit.event order by recorded_at, seq');
    const wanted = new Set(all.map((row) => `${row.chain_id}/${row.seq}`));
    const seen = receiver.lines().map(placeOf);
    return wanted.size > rows && [...wanted].every((place) => seen.includes(place)) ? true : undefined;
  });
  const seen = receiver.lines().map(placeOf);
  assert.deepEqual(seen, firstSeen(seen), 'nothing is there twice');
  assert.equal(seen[0], `${first.chainId}/1`);
  const status = await eventually('the sink tells of itself', () => again.health().sinks[0]);
  assert.equal(status.dropped, 0);
});

test('nothing goes to a receiver of another authority, or of another name', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  const tls = await tlsFixture(directory);
  const other = await tlsFixture(directory, 'other');
  const certificate = await tls.certificate('server', ['siem.example']);
  const receiver = await startRsyslog(t, directory, { caFile: tls.caFile, ...certificate });
  const caFile = join(directory, 'trusted.pem');
  copyFileSync(other.caFile, caFile);
  const fails = async (log: AuditLog, pattern: RegExp): Promise<void> => {
    await eventually(`it fails with ${String(pattern)}`, () =>
      pattern.test(statusOf(log).error ?? '') ? true : undefined,
    );
    assert.equal(statusOf(log).sent, 0);
    assert.deepEqual(receiver.lines(), []);
  };
  const wrongName = await openLog(directory, { sinks: { syslog: settingsFor(receiver.port, caFile) } });
  t.after(() => wrongName.close());
  await fails(wrongName, /unable to|self-signed|signature/i);
  copyFileSync(tls.caFile, caFile);
  await fails(wrongName, /does not match|altnames/i);
  await wrongName.close();
  const named = settingsFor(receiver.port, caFile, { server_name: 'siem.example' });
  const log = await openLog(directory, { sinks: { syslog: named } });
  t.after(() => log.close());
  await eventually('it is sent', () => (statusOf(log).sent > 0 ? true : undefined));
  assert.equal(receiver.lines().map(placeOf)[0], `${wrongName.chainId}/1`);
});

test('killed while it sends: what was on disk comes, and what comes twice was not confirmed', {
  skip,
}, async (t) => {
  const directory = temporaryDirectory(t);
  const { owner, writer } = await auditDatabase(server);
  const tls = await tlsFixture(directory);
  const certificate = await tls.certificate('server', ['localhost']);
  const receiver = await startRsyslog(t, directory, { caFile: tls.caFile, ...certificate });
  const address = `localhost:${receiver.port}`;
  const sender = fileURLToPath(new URL('./syslog-sender.js', import.meta.url));
  const process_ = startBackground(t, process.execPath, [sender, directory, writer, address, tls.caFile]);
  const saved = (): string | undefined => {
    try {
      return readFileSync(join(directory, 'spool', 'sink-syslog.json'), 'utf8');
    } catch {
      return undefined;
    }
  };
  await eventually('a position is saved', () => saved());
  await process_.end('SIGKILL');
  const { chain, seq } = JSON.parse(saved() ?? '') as { chain: string; seq: number };
  const log = await openLog(directory, {
    database: { url: writer },
    sinks: { syslog: settingsFor(receiver.port, tls.caFile) },
  });
  t.after(() => log.close());
  assert.equal(await log.flush(FLUSH_MS), true);
  const all = await rowsOf(owner, 'select chain_id, seq from audit.event order by chain_id, seq');
  const wanted = all.map((row) => `${row.chain_id}/${row.seq}`);
  await eventually('all are there', () => {
    const seen = new Set(receiver.lines().map(placeOf));
    return wanted.every((place) => seen.has(place)) ? true : undefined;
  });
  const seen = receiver.lines().map(placeOf);
  const old = wanted.filter((place) => place.startsWith(chain));
  assert.ok(old.length > seq && seq > 0);
  assert.deepEqual(firstSeen(seen.filter((place) => place.startsWith(chain))), old, 'in order');
  for (const place of old.slice(0, seq))
    assert.equal(seen.filter((other) => other === place).length, 1, `${place} was confirmed`);
});

const hang = async (
  t: Closer,
  how: (proxy: TcpProxy, port: number) => number,
): Promise<{ log: AuditLog; owner: string }> => {
  const directory = temporaryDirectory(t);
  const { owner, writer } = await auditDatabase(server);
  const tls = await tlsFixture(directory);
  const port = await startTlsServer(t, tls, (socket) => socket.pause());
  const proxy = await startTcpProxy(t, port);
  const log = await openLog(directory, {
    database: { url: writer },
    sinks: { syslog: settingsFor(how(proxy, port), tls.caFile) },
  });
  t.after(() => log.close());
  return { log, owner };
};

for (const [name, how] of [
  ['that takes connections and reads nothing', (_: TcpProxy, port: number) => port],
  [
    'behind a network that passes nothing on',
    (proxy: TcpProxy) => {
      proxy.stall();
      return proxy.port;
    },
  ],
] as const) {
  test(`with a receiver ${name}, decisions count and rows arrive`, async (t) => {
    const { log, owner } = await hang(t, how);
    for (let round = 0; round < 20; round += 1)
      await Promise.all(Array.from({ length: 100 }, (_, n) => log.record(decision(round * 100 + n))));
    assert.equal(log.available(), true);
    assert.equal(await log.flush(FLUSH_MS), true);
    const [row] = await rowsOf(
      owner,
      "select count(*)::int as n from audit.event where type = 'stream.decision'",
    );
    assert.equal(row?.n, 2_000);
    await eventually('the sink is behind', () => (statusOf(log).backlog_events >= 2_000 ? true : undefined));
    assert.equal(statusOf(log).sent, 0);
    await log.close();
  });
}

test('a receiver that resets a connection gets what it carried again', async (t) => {
  const directory = temporaryDirectory(t);
  const tls = await tlsFixture(directory);
  const taken: string[] = [];
  let connections = 0;
  const port = await startTlsServer(t, tls, (socket) => {
    connections += 1;
    const isFirst = connections === 1;
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
      if (isFirst) socket.destroy();
    });
    socket.on('end', () => {
      taken.push(text);
      socket.end();
    });
  });
  const log = await openLog(directory, {
    sinks: { syslog: settingsFor(port, tls.caFile, { confirm_seconds: 2 }) },
  });
  t.after(() => log.close());
  for (let n = 0; n < 50; n += 1) log.note(decision(n));
  await log.flush(FLUSH_MS);
  await eventually('all are sent', () => (statusOf(log).sent === 52 ? true : undefined));
  assert.ok(statusOf(log).failed >= 1);
  const seqs = [...taken.join('').matchAll(/ seq="(\d+)"/g)].map(([, seq]) => Number(seq));
  assert.deepEqual(
    seqs,
    Array.from({ length: 52 }, (_, n) => n + 1),
  );
});
