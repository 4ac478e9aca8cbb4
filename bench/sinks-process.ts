/**
 * What the live sinks deliver to a receiver on loopback, and what they cost the process that records.
 *
 *     node --import tsx bench/sinks-process.ts [--events 100000] [--starts 3]
 *
 * One line for each of: no sink, syslog over TLS, OTLP over TLS, both; medians. The receivers are a process of their own that reads
 * and throws away. Comparator in the same run: the same count of frames of the same size, written to the syslog receiver over one TLS
 * connection by nothing but `socket.write`.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createServer as createTlsServer } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { AuditLog, SinkSettings } from '../src/audit/index.ts';
import { otlpSinkSchema, syslogSinkSchema } from '../src/audit/sink/sink-settings.ts';
import { decision, ending, openLog } from '../test/audit/audit-fixture.ts';
import { tlsFixture } from '../test/audit/syslog-receiver.ts';

const { values } = parseArgs({
  options: {
    events: { type: 'string', default: '100000' },
    starts: { type: 'string', default: '3' },
    /** The receivers, with the directory of their certificate: what the bench starts itself. */
    receive: { type: 'string' },
  },
});
const EVENTS = Number(values.events);
const GROUP_STREAMS = 1_000;
/** What is read at a time of the sinks' own status, which they tell four times a second. */
const LOOK_MS = 50;
/** So that the last of the events are confirmed soon. */
const CONFIRM_SECONDS = 1;
const FLUSH_MS = 600_000;
const UNLIMITED_BYTES = 64 * 1024 ** 3;
/** Of one write of the comparator. */
const WRITE_BYTES = 64 * 1024;

interface Ports {
  readonly syslog: number;
  readonly otlp: number;
}

const receive = async (directory: string): Promise<void> => {
  const cert = readFileSync(join(directory, 'server.pem'));
  const key = readFileSync(join(directory, 'server.key'));
  const listening = async (server: Server): Promise<number> => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  };
  let received = 0;
  const syslog = await listening(
    createTlsServer({ cert, key }, (socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (bytes: Buffer) => {
        received += bytes.length;
      });
    }),
  );
  const otlp = await listening(
    createHttpsServer({ cert, key }, (request, response) => {
      request.resume();
      request.on('end', () => response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end());
    }),
  );
  process.send?.({ syslog, otlp } satisfies Ports);
  process.on('message', () => process.send?.(received));
  process.on('disconnect', () => process.exit(0));
};

const startReceivers = async (directory: string): Promise<{ child: ChildProcess; ports: Ports }> => {
  const child = fork(fileURLToPath(import.meta.url), ['--receive', directory], {
    execArgv: ['--import', 'tsx'],
  });
  const [ports] = (await once(child, 'message')) as [Ports];
  return { child, ports };
};

const allSent = async (log: AuditLog, names: readonly string[]): Promise<void> => {
  for (;;) {
    const { sinks, last_seq: last } = log.health();
    if (names.every((name) => sinks.some((sink) => sink.name === name && sink.sent >= last))) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
};

interface Run {
  readonly perSecond: number;
  readonly cpuMicros: number;
}

const run = async (sinks: SinkSettings | undefined): Promise<Run> => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-bench-sinks-'));
  const log = await openLog(directory, {
    maxSpoolBytes: UNLIMITED_BYTES,
    ...(sinks === undefined ? {} : { sinks }),
  });
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  for (let done = 0; done < EVENTS; done += 2 * GROUP_STREAMS) {
    const numbers = Array.from({ length: GROUP_STREAMS }, (_, index) => done + index);
    const decided = Promise.all(numbers.map((number) => log.record(decision(number))));
    for (const number of numbers) log.note(ending(number));
    await decided;
  }
  if (sinks === undefined) await log.flush(FLUSH_MS);
  else await allSent(log, Object.keys(sinks));
  const seconds = (performance.now() - startedMs) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  await log.close();
  rmSync(directory, { recursive: true, force: true });
  return { perSecond: EVENTS / seconds, cpuMicros: (user + system) / EVENTS };
};

/** Frames of this size a second over one TLS connection, until the receiver has read them and ended. */
const plainTls = async (port: number, ca: Buffer, frameBytes: number): Promise<number> => {
  const socket = connect({ host: '127.0.0.1', port, ca, servername: 'localhost' });
  await once(socket, 'secureConnect');
  const piece = Buffer.alloc(WRITE_BYTES, 0x61);
  const startedMs = performance.now();
  for (let left = EVENTS * frameBytes; left > 0; left -= WRITE_BYTES) {
    if (!socket.write(piece.subarray(0, Math.min(left, WRITE_BYTES)))) await once(socket, 'drain');
  }
  socket.resume();
  socket.end();
  await once(socket, 'close');
  return (EVENTS * 1_000) / (performance.now() - startedMs);
};

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

const bench = async (): Promise<void> => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-bench-sinks-tls-'));
  const tls = await tlsFixture(directory);
  await tls.certificate('server', ['localhost']);
  const { child, ports } = await startReceivers(directory);
  const ca_file = tls.caFile;
  const syslog = syslogSinkSchema.parse({
    address: `localhost:${ports.syslog}`,
    ca_file,
    confirm_seconds: CONFIRM_SECONDS,
  });
  const otlp = otlpSinkSchema.parse({ endpoint: `https://localhost:${ports.otlp}/v1/logs`, ca_file });
  const cases: readonly [string, SinkSettings | undefined][] = [
    ['none', undefined],
    ['syslog', { syslog }],
    ['otlp', { otlp }],
    ['both', { syslog, otlp }],
  ];
  try {
    const runs = new Map<string, Run[]>();
    // Sinks take turns, and the first run of each process is for V8 to compile.
    await run(undefined);
    for (let start = 0; start < Number(values.starts); start += 1) {
      for (const [name, sinks] of cases) runs.set(name, [...(runs.get(name) ?? []), await run(sinks)]);
    }
    const without = median((runs.get('none') ?? []).map(({ cpuMicros }) => cpuMicros));
    for (const [name] of cases) {
      const of = runs.get(name) ?? [];
      const cpuMicros = median(of.map((one) => one.cpuMicros));
      const line = {
        sink: name,
        events_per_second: Math.round(median(of.map(({ perSecond }) => perSecond))),
        cpu_us_per_event: Math.round(cpuMicros),
        cpu_us_per_event_of_the_sink: Math.round(cpuMicros - without),
      };
      process.stdout.write(`${JSON.stringify(line)}\n`);
    }
    const counted = once(child, 'message') as Promise<[number]>;
    child.send('how many bytes');
    const [bytes] = await counted;
    // Syslog went there in two cases of each start.
    const frameBytes = Math.round(bytes / (2 * Number(values.starts) * EVENTS));
    const plain = await plainTls(ports.syslog, readFileSync(ca_file), frameBytes);
    const line = { plain_tls_frames_per_second: Math.round(plain), frame_bytes: frameBytes };
    process.stdout.write(`${JSON.stringify(line)}\n`);
  } finally {
    child.disconnect();
    rmSync(directory, { recursive: true, force: true });
  }
};

if (values.receive === undefined) await bench();
else await receive(values.receive);
