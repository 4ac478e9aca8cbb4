import assert from 'node:assert/strict';
import { copyFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { AuditLog, SinkStatus } from '../../src/audit/index.ts';
import { otlpSinkSchema } from '../../src/audit/sink/sink-settings.ts';
import { packageVersion } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { pythonMissing } from '../support/python.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { auditDatabase, decision, openLog, rowsOf, streamId } from './audit-fixture.ts';
import { type OtlpLine, startOtlp } from './otlp-receiver.ts';
import { tlsFixture } from './syslog-receiver.ts';

const FLUSH_MS = 10_000;
const skip = pythonMissing;

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

const statusOf = (log: AuditLog): SinkStatus => {
  const status = log.health().sinks.find(({ name }) => name === 'otlp');
  if (status === undefined) throw new Error('the sink has not told of itself yet');
  return status;
};

const seqs = (lines: readonly OtlpLine[]): number[] =>
  lines.map(({ attributes }) => Number(attributes['sallyport.seq']));

const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n + 1);

const setUp = async (t: Parameters<typeof temporaryDirectory>[0]) => {
  const directory = temporaryDirectory(t);
  const tls = await tlsFixture(directory);
  const certificate = await tls.certificate('server', ['localhost']);
  const receiver = await startOtlp(t, directory, certificate);
  const otlp = otlpSinkSchema.parse({ endpoint: receiver.endpoint, ca_file: tls.caFile, timeout_seconds: 5 });
  return { directory, tls, receiver, otlp };
};

const NANOS_PER_MS = 1_000_000n;

test('a receiver gets every event, in order, by the conventions of OpenTelemetry', { skip }, async (t) => {
  const { directory, receiver, otlp } = await setUp(t);
  const headers = join(directory, 'headers');
  writeFileSync(headers, '# of the collector\nAuthorization: Bearer planted-otlp-token\n\n');
  const log = await openLog(directory, { sinks: { otlp: { ...otlp, headers_file: headers } } });
  t.after(() => log.close());
  for (let n = 0; n < 450; n += 1) log.note(decision(n, n % 10 !== 0));
  await log.flush(FLUSH_MS);
  await eventually('all are sent', () => (statusOf(log).sent === 452 ? true : undefined));
  const lines = receiver.lines();
  assert.deepEqual(seqs(lines), upTo(452));
  assert.ok(lines.every(({ attributes }) => attributes['sallyport.chain'] === log.chainId));
  const line = lines.find(({ attributes }) => attributes['sallyport.action'] === 'denied');
  assert.ok(line !== undefined);
  const event = JSON.parse(line.body) as { id: string; at: string };
  assert.deepEqual(
    [line.path, line.authorization, line.contentType],
    ['/v1/logs', 'Bearer planted-otlp-token', 'application/x-protobuf'],
  );
  assert.equal(BigInt(line.timeUnixNano), BigInt(Date.parse(event.at)) * NANOS_PER_MS);
  assert.ok(Number(line.observedTimeUnixNano) >= Number(line.timeUnixNano));
  assert.deepEqual(
    [line.severityNumber, line.severityText, line.eventName],
    [9, 'INFO', 'sallyport.stream.decision'],
  );
  assert.deepEqual(line.scope, { name: 'sallyport.audit', version: packageVersion });
  const { 'host.name': host, ...resource } = line.resource;
  assert.ok(host !== '');
  assert.deepEqual(resource, {
    'service.name': 'sallyport-agent',
    'service.namespace': 'relay.example.com',
    'service.instance.id': 'instance-1',
    'service.version': '0.1.0',
    'sallyport.name': 'agent-1',
  });
  const { attributes } = line;
  assert.deepEqual(
    [attributes['log.record.uid'], attributes['server.address'], attributes['server.port']],
    [event.id, 'sql01.corp.example', 1433],
  );
  assert.deepEqual(
    [attributes['network.peer.address'], attributes['client.address'], attributes['sallyport.reason']],
    ['10.1.2.3', '203.0.113.7', 'policy_denied'],
  );
  assert.ok(!JSON.stringify(log.health()).includes('planted'));
});

test('what a receiver cannot take now comes later, once and in order, over a restart too', {
  skip,
}, async (t) => {
  const { directory, receiver, otlp } = await setUp(t);
  const { owner, writer } = await auditDatabase(server);
  receiver.behave({ status: 503 });
  const first = await openLog(directory, { database: { url: writer }, sinks: { otlp } });
  t.after(() => first.close());
  for (let n = 0; n < 300; n += 1) first.note(decision(n));
  assert.equal(await first.flush(FLUSH_MS), true);
  await eventually('it fails', () => (statusOf(first).failed > 1 ? true : undefined));
  assert.match(statusOf(first).error ?? '', /503: not now, None/);
  assert.equal(first.available(), true);
  await first.close();
  receiver.behave({ status: 401 });
  const headers = join(directory, 'headers');
  writeFileSync(headers, 'Authorization: Bearer planted-otlp-token\n');
  const sinks = { otlp: { ...otlp, headers_file: headers } };
  const log = await openLog(directory, { database: { url: writer }, sinks });
  t.after(() => log.close());
  await eventually('it fails', () => (statusOf(log).error?.includes('401') === true ? true : undefined));
  assert.equal(statusOf(log).error, 'the receiver answers 401: not now, Bearer [redacted]');
  // As OpenTelemetry's collector answers: a google.rpc.Status.
  receiver.behave({ status: 403, code: 7 });
  await eventually('it fails otherwise', () =>
    statusOf(log).error?.includes('403') === true ? true : undefined,
  );
  assert.match(statusOf(log).error ?? '', /^the receiver answers 403: not now, Bearer \[redacted\]\.+$/);
  assert.deepEqual(receiver.lines(), []);
  receiver.behave({});
  await log.flush(FLUSH_MS);
  const [row] = await rowsOf(owner, 'select count(*)::int as n from audit.event');
  await eventually('all are there', () => (receiver.lines().length >= Number(row?.n) ? true : undefined));
  const lines = receiver.lines();
  const old = lines.filter(({ attributes }) => attributes['sallyport.chain'] === first.chainId);
  assert.deepEqual(seqs(old), upTo(old.length));
  assert.deepEqual(lines.slice(0, old.length), old);
  assert.ok(old.length >= 302);
});

test('a record that is refused is passed over and counted, and those beside it are not', {
  skip,
}, async (t) => {
  const { directory, receiver, otlp } = await setUp(t);
  receiver.behave({ refuse: streamId(77) });
  const log = await openLog(directory, { sinks: { otlp } });
  t.after(() => log.close());
  for (let n = 0; n < 100; n += 1) log.note(decision(n));
  await log.flush(FLUSH_MS);
  await eventually('all are settled', () => {
    const { sent, dropped } = statusOf(log);
    return sent + dropped === 102 ? true : undefined;
  });
  assert.deepEqual([statusOf(log).sent, statusOf(log).dropped], [101, 1]);
  assert.equal(receiver.lines().length, 101);
  receiver.behave({ reject: streamId(133) });
  for (let n = 100; n < 200; n += 1) log.note(decision(n));
  await log.flush(FLUSH_MS);
  await eventually('all are settled', () => {
    const { sent, dropped } = statusOf(log);
    return sent + dropped === 202 ? true : undefined;
  });
  assert.deepEqual([statusOf(log).sent, statusOf(log).dropped], [200, 2]);
  assert.equal(receiver.lines().length, 200);
});

test('where every request is refused, no event is to blame', { skip }, async (t) => {
  const { directory, receiver, otlp } = await setUp(t);
  receiver.behave({ status: 400 });
  const log = await openLog(directory, { sinks: { otlp } });
  t.after(() => log.close());
  for (let n = 0; n < 20; n += 1) log.note(decision(n));
  await log.flush(FLUSH_MS);
  await eventually('it fails', () => (statusOf(log).failed > 2 ? true : undefined));
  assert.equal(statusOf(log).dropped, 0);
  receiver.behave({});
  await eventually('all are sent', () => (statusOf(log).sent === 22 ? true : undefined));
  assert.deepEqual(seqs(receiver.lines()), upTo(22));
});

test('nothing goes to a receiver of another authority', { skip }, async (t) => {
  const { directory, tls, receiver, otlp } = await setUp(t);
  const other = await tlsFixture(directory, 'other');
  const caFile = join(directory, 'trusted.pem');
  copyFileSync(other.caFile, caFile);
  const log = await openLog(directory, { sinks: { otlp: { ...otlp, ca_file: caFile } } });
  t.after(() => log.close());
  await eventually('it fails', () => (statusOf(log).failed > 1 ? true : undefined));
  assert.match(statusOf(log).error ?? '', /unable to|self-signed|signature/i);
  assert.deepEqual(receiver.lines(), []);
  copyFileSync(tls.caFile, caFile);
  await eventually('it is sent', () => (statusOf(log).sent > 0 ? true : undefined));
  assert.equal(seqs(receiver.lines())[0], 1);
});

test('with a receiver that never answers, decisions count and rows arrive', async (t) => {
  const directory = temporaryDirectory(t);
  const { owner, writer } = await auditDatabase(server);
  const silent = createServer((socket) => socket.on('error', () => undefined));
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  t.after(() => silent.close());
  const { port } = silent.address() as { port: number };
  const otlp = otlpSinkSchema.parse({ endpoint: `http://127.0.0.1:${port}/v1/logs`, timeout_seconds: 1 });
  const log = await openLog(directory, { database: { url: writer }, sinks: { otlp } });
  t.after(() => log.close());
  for (let round = 0; round < 10; round += 1)
    await Promise.all(Array.from({ length: 100 }, (_, n) => log.record(decision(round * 100 + n))));
  assert.equal(log.available(), true);
  assert.equal(await log.flush(FLUSH_MS), true);
  const [row] = await rowsOf(
    owner,
    "select count(*)::int as n from audit.event where type = 'stream.decision'",
  );
  assert.equal(row?.n, 1_000);
  await eventually('it is told', () =>
    /no answer within/.test(statusOf(log).error ?? '') ? true : undefined,
  );
  assert.equal(statusOf(log).sent, 0);
  await log.close();
});
