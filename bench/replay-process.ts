// Rate and memory of `policy replay` over recorded decisions in a real Postgres, by hand:
//   node --import tsx bench/replay-process.ts [DECISIONS]
// The comparator is the engine alone: as many evaluations of the same inputs with nothing read and nothing compared.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decisionData } from '../src/agent/events.ts';
import { ensureReaderRole } from '../src/audit/index.ts';
import {
  decide,
  DEFAULT_BUNDLE_FILE,
  developmentBundle,
  PolicyHost,
  type PolicyInputBase,
} from '../src/policy/index.ts';
import { readBundle } from '../src/policy/bundle/bundle.ts';
import { withEngine } from '../src/policy/tool/engine.ts';
import { silentLogger, systemClock, uuidv7 } from '../src/runtime/index.ts';
import { auditDatabase, openLog, TEST_PASSWORD, urlAs } from '../test/audit/audit-fixture.ts';
import { sallyportProgram } from '../test/support/command.ts';
import { startPostgres } from '../test/support/postgres.ts';

const count = Number(process.argv[2] ?? '100000');
const IN_FLIGHT = 4_000;
const HOUR_MS = 60 * 60 * 1_000;
const scratch = mkdtempSync(join(tmpdir(), 'sallyport-bench-replay-'));
const bundleFile = join(scratch, 'bundle.tar.gz');
const target = { host: 'db.example', port: 5432 };
const bytes = developmentBundle(readFileSync(DEFAULT_BUNDLE_FILE), [{ name: 'orders', ...target }]);
writeFileSync(bundleFile, bytes);

const party = (name: string, claim: string): NonNullable<PolicyInputBase['key']> => ({
  ...{ kind: 'sas', id: 'k_bench', principal: name, auth_rule: name, slot: 'primary' },
  claims: [claim],
  proved_by: 'relay',
});
const inputOf = (number: number): PolicyInputBase => ({
  v: 1,
  action: 'stream',
  namespace: 'relay.example.com',
  connection: { name: 'orders', id: 'c_bench', labels: {} },
  target: { ...target, addresses: ['10.1.2.3'] },
  key: party(number % 3 === 0 ? 'stranger' : 'defaultSender', 'Send'),
  listener: party('defaultListener', 'Listen'),
  source: { gateway: 'gw', gateway_proved: false, address: `203.0.113.${String(number % 250)}` },
  agent: { name: 'agent', instance: 'i', labels: {}, version: '1' },
  relay: { node: 'n1' },
  link: { id: 'l', carrier: 'tcp' },
  stream: { id: uuidv7(), kind: 'tcp', attempt: 1 },
  usage: { principal: { streams: 0 }, connection: { streams: 0 }, agent: { streams: 0 } },
  managed: { require_proof: false },
  time: {
    unix_ms: 1_800_000_000_000 + number,
    rfc3339: new Date(1_800_000_000_000 + number * 1_000).toISOString().replace(/\.\d+Z/, 'Z'),
    local: { date: '2027-01-15', weekday: 'fri', hour: 8, minute: 0, zone: 'UTC' },
  },
});

const server = await startPostgres();
const { owner, writer } = await auditDatabase(server);
await ensureReaderRole(owner, 'reader_1', TEST_PASSWORD);
const host = await PolicyHost.open({
  source: { file: bundleFile },
  clock: systemClock,
  logger: silentLogger,
  openWaitMs: HOUR_MS,
});
const guard = { allowLoopbackPorts: new Set<number>(), ownListeners: [], allowAuditDatabase: false };
const log = await openLog(scratch, { database: { url: writer }, maxSpoolBytes: 64 * 1024 ** 3 });
const recordedMs = performance.now();
for (let at = 0; at < count; at += IN_FLIGHT) {
  const some = Array.from({ length: Math.min(IN_FLIGHT, count - at) }, (_, index) => at + index);
  await Promise.all(
    some.map(async (number) => {
      const input = inputOf(number);
      const decision = await decide(host, input, guard);
      const subject = { connection: 'orders', stream_id: input.stream?.id, principal: input.key?.principal };
      await log.record({ type: 'stream.decision', subject, data: decisionData(decision) });
    }),
  );
}
await log.flush(HOUR_MS);
await log.close();
await host.close();
console.log(`recorded ${count} decisions in ${((performance.now() - recordedMs) / 1_000).toFixed(1)} s`);

const inputs = Array.from({ length: Math.min(count, 20_000) }, (_, number) =>
  JSON.stringify(inputOf(number)),
);
const alone = await withEngine(await readBundle(bytes), async (engine) => {
  const startedMs = performance.now();
  for (let at = 0; at < inputs.length; at += IN_FLIGHT) {
    const some = inputs.slice(at, at + IN_FLIGHT);
    await Promise.all(
      some.map((input) =>
        engine.evaluate({ action: 'stream', input, addresses: ['10.1.2.3'] }, 'bench', 'open'),
      ),
    );
  }
  return (1_000 * inputs.length) / (performance.now() - startedMs);
});

const child = spawn(
  '/usr/bin/env',
  [
    'time',
    '-f',
    '%M',
    sallyportProgram,
    '--json',
    'policy',
    'replay',
    '--database',
    urlAs(owner, 'reader_1'),
    '--bundle',
    bundleFile,
  ],
  { stdio: ['ignore', 'pipe', 'pipe'] },
);
let out = '';
let errors = '';
child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
await new Promise((resolve) => child.once('close', resolve));
const { seconds, counts } = JSON.parse(out) as { seconds: number; counts: Record<string, number> };
console.log(
  JSON.stringify({
    decisions: counts['decisions'],
    same: counts['same'],
    per_second: Math.round(count / seconds),
    engine_alone_per_second: Math.round(alone),
    max_rss_mib: Math.round(Number(errors.trim().split('\n').at(-1)) / 1_024),
  }),
);
await server.stop();
rmSync(scratch, { recursive: true, force: true });
