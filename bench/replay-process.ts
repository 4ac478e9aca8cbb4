// Rate and memory of `policy replay` over recorded decisions in a real Postgres, by hand:
//   node --import tsx bench/replay-process.ts [DECISIONS]
// Comparators in the same run: the engine alone (the same inputs, nothing read, nothing compared) and reading alone.
// The draft denies a part of what was allowed and allows a part of what was denied; for a sample both sets are compared
// with what `opa eval`, one process over all of it, says of the same inputs.
import { spawn } from 'node:child_process';
import { createReadStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { decisionData } from '../src/agent/events.ts';
import { AuditReader, ensureReaderRole, recordedDecisions } from '../src/audit/index.ts';
import {
  buildBundle,
  decide,
  DEFAULT_BUNDLE_FILE,
  developmentBundle,
  PolicyHost,
  type PolicyInputBase,
  type ReplayCounts,
  writeProposals,
} from '../src/policy/index.ts';
import { readBundle } from '../src/policy/bundle/bundle.ts';
import { withEngine } from '../src/policy/tool/engine.ts';
import { findOpa } from '../src/policy/tool/opa.ts';
import { askOpa } from '../src/policy/tool/opa-verdicts.ts';
import { silentLogger, systemClock, uuidv7 } from '../src/runtime/index.ts';
import { auditDatabase, openLog, TEST_PASSWORD, urlAs } from '../test/audit/audit-fixture.ts';
import { sallyportProgram } from '../test/support/command.ts';
import { startPostgres } from '../test/support/postgres.ts';

const count = Number(process.argv[2] ?? '100000');
const IN_FLIGHT = 4_000;
/** Decisions that OPA itself is asked about. */
const SAMPLE = 10_000;
const HOUR_MS = 60 * 60 * 1_000;
const scratch = mkdtempSync(join(tmpdir(), 'sallyport-bench-replay-'));
process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
const bundleFile = join(scratch, 'bundle.tar.gz');
const target = { host: 'db.example', port: 5432 };
const bytes = developmentBundle(readFileSync(DEFAULT_BUNDLE_FILE), [{ name: 'orders', ...target }]);
writeFileSync(bundleFile, bytes);

const party = (name: string, claim: string): NonNullable<PolicyInputBase['key']> => ({
  ...{ kind: 'sas', id: 'k_bench', principal: name, slot: 'primary' },
  // A key of the connection has its principal's name; the stranger's is from elsewhere, and denied.
  auth_rule: name === 'stranger' ? 'elsewhere' : name,
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

/** Who is allowed now is allowed from half of the network only, and so is who was denied. */
const draft = join(scratch, 'draft');
const head = (id: string): string =>
  `# METADATA\n# title: ${id}\n# custom: {id: ${id}, owner: bench@example.com, ticket: none, expires: never}\n`;
const draftRego = `package sallyport.allow

import data.sallyport.request

${head('draft-publish')}publish["orders"] contains rego.metadata.rule() if request.target_is("${target.host}", ${target.port})

${head('draft-sender')}stream["orders"] contains rego.metadata.rule() if {
	input.key.principal in {"defaultSender", "stranger"}
	request.from_any({"203.0.113.0/25"})
}
`;
writeProposals(draft, [
  { connection: 'orders', rego: draftRego, vectors: '[]\n', rules: 2, rarelySeen: [], removed: [] },
]);
const draftFile = join(scratch, 'draft.tar.gz');
writeFileSync(draftFile, (await buildBundle(draft, undefined, { sequence: 2 })).bytes);

/** By event: the sampled input and whether it was allowed. */
const sample = new Map<string, { input: PolicyInputBase; was: boolean }>();
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
      const data = decisionData(decision);
      const { event_id: eventId } = await log.record({ type: 'stream.decision', subject, data });
      log.note({ type: 'stream.close', subject, data: { reason: 'client_fin', reason_number: 1 } });
      if (number % Math.ceil(count / SAMPLE) === 0) sample.set(eventId, { input, was: decision.allow });
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

const reader = await AuditReader.connect(urlAs(owner, 'reader_1'));
const readMs = performance.now();
let readCount = 0;
const everything = { from: '2020-01-01', to: '2100-01-01' };
for await (const page of recordedDecisions(reader, everything)) readCount += page.decisions.length;
const reading = (1_000 * readCount) / (performance.now() - readMs);
await reader.close();

interface ReplayRun {
  readonly perSecond: number;
  readonly maxRssMib: number;
  readonly counts: ReplayCounts;
}

const replay = async (...more: string[]): Promise<ReplayRun> => {
  const from = ['--database', urlAs(owner, 'reader_1'), '--fail-on', 'never'];
  const args = ['-f', '%M', sallyportProgram, '--json', 'policy', 'replay', ...from, ...more];
  const child = spawn('/usr/bin/env', ['time', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  await new Promise((resolve) => child.once('close', resolve));
  const { seconds, counts } = JSON.parse(out) as { seconds: number; counts: ReplayCounts };
  const maxRssMib = Math.round(Number(errors.trim().split('\n').at(-1)) / 1_024);
  return { perSecond: Math.round(count / seconds), maxRssMib, counts };
};

const same = await replay('--bundle', bundleFile);
// On a machine without time for it, the engine may have denied one when it was recorded.
const engineDenied = same.counts.not_compared['engine'] ?? 0;
if (same.counts.same + engineDenied !== count)
  throw new Error(`not all the same: ${JSON.stringify(same.counts)}`);
const changesFile = join(scratch, 'changes.jsonl');
const changed = await replay('--bundle', draftFile, '--changes', changesFile);
const told = new Map<string, string>();
for await (const line of createInterface({ input: createReadStream(changesFile) })) {
  const { eventId, change } = JSON.parse(line) as { eventId: string; change: string };
  if (sample.has(eventId)) told.set(eventId, change);
}
const sampled = [...sample];
const answers = await askOpa(
  await findOpa(),
  draft,
  sampled.map(([, { input }]) => ({ ...input, target: { ...input.target, address: '10.1.2.3' } })),
);
const agreed = { newly_denied: 0, newly_allowed: 0, neither: 0 };
for (const [index, [eventId, { was }]] of sampled.entries()) {
  const answer = answers[index];
  if (answer?.ok !== true) throw new Error(`opa has no answer to ${eventId}`);
  const now = answer.verdict.allow;
  const expected = was === now ? 'neither' : was ? 'newly_denied' : 'newly_allowed';
  const found = told.get(eventId);
  const said = found === 'newly_denied' || found === 'newly_allowed' ? found : 'neither';
  if (said !== expected) throw new Error(`${eventId}: replay says ${said}, opa ${expected}`);
  agreed[expected] += 1;
}
if (agreed.newly_denied === 0 || agreed.newly_allowed === 0)
  throw new Error(`the draft changes too little: ${JSON.stringify(agreed)}`);
console.log(
  JSON.stringify({
    decisions: same.counts.decisions,
    per_second: same.perSecond,
    max_rss_mib: same.maxRssMib,
    engine_alone_per_second: Math.round(alone),
    reading_alone_per_second: Math.round(reading),
    share_of_engine_alone: Number((same.perSecond / alone).toFixed(2)),
    with_changes: {
      per_second: changed.perSecond,
      max_rss_mib: changed.maxRssMib,
      newly_denied: changed.counts.newly_denied,
      newly_allowed: changed.counts.newly_allowed,
    },
    sample_agrees_with_opa: agreed,
  }),
);
await server.stop();
