/**
 * Untampered stores after everything that may happen to one: both verifiers must find nothing in them.
 *
 *     node --import tsx bench/whole-stores-process.ts [--stores 10] [--events 1000000] [--seed N]
 *
 * Each store is written by an agent and a relay under load, which are killed (SIGKILL) or restarted at random moments, while
 * the database is killed or away at others; then everything of the first chains is made three days old and removed by an
 * operator's signed request. Prints what happened to each store, what both verifiers say of it and how fast, and ends with 1 when
 * one of them says anything.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  addSigner,
  createAuditRoot,
  detachRetained,
  ensureRetentionRole,
  ensureWriterRole,
  openAuditKey,
  removableBefore,
  requestRetention,
  retentionRecorded,
  verifyAudit,
} from '../src/audit/index.ts';
import { systemClock } from '../src/runtime/index.ts';
import { auditDatabase, rowsOf, tamper, TEST_PASSWORD, urlAs } from '../test/audit/audit-fixture.ts';
import { runSecondVerifier } from '../test/audit/both-verifiers.ts';
import { startPostgres, type TestPostgres } from '../test/support/postgres.ts';
import { randomFrom } from '../test/support/random-from.ts';

const { values } = parseArgs({
  options: {
    stores: { type: 'string', default: '10' },
    events: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
  },
});
const STORES = Number(values.stores);
const EVENTS = Number(values.events);
const seed = Number(values.seed);
const DAY_MS = 24 * 3_600_000;
const OLD_DAYS = 3;
/** The seals are as young as the run: only that they came before the request counts. */
const KEEP_MS = 1;
const WAIT_MS = 600_000;
const VERIFY_DEADLINE_MS = 1_800_000;
/** Events of a writer between two of its ends, at most; the least is a tenth. */
const LIFE_EVENTS = EVENTS / 12;
const MAX_PAUSE_MS = 3_000;
const OUTAGE_MS = 20_000;

const random = randomFrom(seed);

interface Counts {
  kills: number;
  restarts: number;
  databaseKills: number;
  outages: number;
}

interface Writer {
  readonly kind: 'agent' | 'relay';
  readonly login: string;
  readonly directory: string;
}

const writerProgram = fileURLToPath(new URL('whole-stores-writer.ts', import.meta.url));

/** Runs the writer until it has recorded about `events`, and ends it. Returns how many it said were on disk. */
const liveOnce = async (writer: Writer, url: string, events: number, kill: boolean): Promise<number> => {
  const args = ['--import', 'tsx', writerProgram, writer.kind, writer.directory, url];
  const child: ChildProcess = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let recorded = 0;
  let ending = false;
  const ended = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout! })) {
    recorded = Number(line);
    if (recorded < events || ending) continue;
    ending = true;
    child.kill(kill ? 'SIGKILL' : 'SIGTERM');
  }
  await ended;
  return recorded;
};

const write = async (writer: Writer, url: string, counts: Counts): Promise<void> => {
  for (let left = EVENTS / 2; left > 0; ) {
    const events = Math.min(left, LIFE_EVENTS * (0.1 + 0.9 * random()));
    const kill = left > events && random() < 0.7;
    left -= await liveOnce(writer, url, events, kill);
    if (kill) counts.kills += 1;
    else counts.restarts += 1;
    await pause(random() * MAX_PAUSE_MS);
  }
};

/** Asked again after an await: the loop's own condition says nothing about what happened meanwhile. */
const isOver = (signal: AbortSignal): boolean => signal.aborted;

/** Kills the database, or takes it away for a while, until told to end. */
const disturb = async (server: TestPostgres, counts: Counts, signal: AbortSignal): Promise<void> => {
  while (!signal.aborted) {
    await pause(OUTAGE_MS * (0.2 + random()), undefined, { signal }).catch(() => undefined);
    if (isOver(signal)) return;
    const kill = random() < 0.5;
    await (kill ? server.kill() : server.pause());
    await pause(OUTAGE_MS * random());
    await server.resume();
    if (kill) counts.databaseKills += 1;
    else counts.outages += 1;
  }
};

const dayOf = (daysAgo: number): string =>
  new Date(systemClock.nowMs() - daysAgo * DAY_MS).toISOString().slice(0, 10).replaceAll('-', '');

/** Makes everything of the oldest chains three days old, as if it had been stored then. */
const age = async (owner: string): Promise<void> => {
  const chains = await rowsOf(owner, 'select chain_id from audit.chain order by opened_at limit 4');
  const day = dayOf(OLD_DAYS);
  const partitions = ['event', 'seal_leaves'].flatMap((parent) => [
    `create table if not exists audit.${parent}_${day} partition of audit.${parent}
       for values from ('${day} 00:00:00+00') to ('${dayOf(OLD_DAYS - 1)} 00:00:00+00')`,
    `alter table audit.${parent}_${day} owner to audit_owner`,
  ]);
  const ids = chains.map(({ chain_id: id }) => `'${String(id)}'`).join(', ');
  const moved = ['event', 'seal_leaves', 'seal'].map(
    (table) =>
      `update audit.${table} set recorded_at = '${day} 12:00:00+00'::timestamptz where chain_id in (${ids})`,
  );
  await tamper(owner, ...partitions, ...moved);
};

const retain = async (
  retention: string,
  operatorKeyFile: string,
  writer: Writer,
  writerUrl: string,
): Promise<void> => {
  const timeMs = systemClock.nowMs();
  const beforeMs = timeMs - KEEP_MS;
  const removable = await removableBefore(retention, beforeMs);
  if (removable.days.length === 0) throw new Error('nothing is old enough to be removed');
  const parts = { removable, timeMs, beforeMs, clock: systemClock };
  const { id } = await requestRetention({ databaseUrl: retention, operatorKeyFile, ...parts });
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', writerProgram, writer.kind, writer.directory, writerUrl],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const ended = once(child, 'exit');
  const recorded = await retentionRecorded(retention, id, WAIT_MS, systemClock);
  child.kill('SIGTERM');
  await ended;
  if (!recorded) throw new Error('no writer recorded the request for retention');
  await detachRetained(retention, id, true);
};

const rate = (events: number, startedMs: number): string =>
  `${Math.round((1_000 * events) / (performance.now() - startedMs))} events/s`;

/** Makes one store and returns how many of the two verifiers had something to say. */
const one = async (server: TestPostgres, number: number): Promise<number> => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-whole-'));
  const { owner, writer: first } = await auditDatabase(server);
  await ensureWriterRole(owner, 'writer_2', TEST_PASSWORD);
  await ensureRetentionRole(owner, 'retention_1', TEST_PASSWORD);
  const files = { rootKeyFile: join(directory, 'root.pem'), trustFile: join(directory, 'trust.json') };
  createAuditRoot(files);
  const writers: readonly Writer[] = [
    { kind: 'agent', login: 'writer_1', directory: join(directory, 'agent') },
    { kind: 'relay', login: 'writer_2', directory: join(directory, 'relay') },
  ];
  for (const { kind, directory: own } of writers) {
    const { publicKey } = openAuditKey(join(own, 'audit-key.pem'));
    addSigner({ ...files, publicKey, kind, name: `${kind}-1`, clock: systemClock });
  }
  const operatorKeyFile = join(directory, 'operator.pem');
  const { publicKey } = openAuditKey(operatorKeyFile);
  addSigner({ ...files, publicKey, kind: 'operator', name: 'olga', clock: systemClock });

  const counts: Counts = { kills: 0, restarts: 0, databaseKills: 0, outages: 0 };
  const over = new AbortController();
  const wroteMs = performance.now();
  const disturbing = disturb(server, counts, over.signal);
  await Promise.all(writers.map((writer) => write(writer, urlAs(owner, writer.login), counts)));
  over.abort();
  await disturbing;
  const [agent] = writers;
  // The last life of each delivers what the ones before left, and ends in order.
  for (const writer of writers) await liveOnce(writer, urlAs(owner, writer.login), 1, false);
  const [total] = await rowsOf(owner, 'select count(*)::int as events from audit.event');
  const wrote = rate(Number(total?.events), wroteMs);
  await age(owner);
  await retain(urlAs(owner, 'retention_1'), operatorKeyFile, agent!, first);

  const heads = writers.map((writer) => join(writer.directory, 'spool', 'head.json'));
  const verifiedMs = performance.now();
  const report = await verifyAudit({
    databaseUrl: owner,
    trustFile: files.trustFile,
    headFiles: heads,
    columns: true,
    keepMs: KEEP_MS,
    workers: 2,
  });
  const firstRate = rate(report.events, verifiedMs);
  const secondMs = performance.now();
  const flags = [
    '--database',
    owner,
    '--trust',
    files.trustFile,
    '--columns',
    '--keep',
    `${KEEP_MS}ms`,
    '--heads',
  ];
  const second = await runSecondVerifier([...flags, ...heads], VERIFY_DEADLINE_MS);
  const said = second.code === 0 ? 'nothing' : `${second.stdout}${second.stderr}`.slice(0, 2_000);
  process.stdout.write(
    `${JSON.stringify({
      store: number,
      events: total?.events,
      ...counts,
      wrote,
      chains: report.chains,
      seals: report.seals,
      breaks: report.breaks,
      retained: report.retained.map(({ batches, events }) => ({ batches, events })),
      truncation: report.truncation,
      first_verifier: { findings: report.findings, rate: firstRate },
      second_verifier: { findings: said, rate: rate(report.events, secondMs) },
    })}\n`,
  );
  rmSync(directory, { recursive: true, force: true });
  await rowsOf(server.url, `drop database ${new URL(owner).pathname.slice(1)}`);
  return (report.ok ? 0 : 1) + (second.code === 0 ? 0 : 1);
};

process.stdout.write(`seed ${seed}\n`);
// Durable: a database that is killed may forget nothing that it acknowledged.
const server = await startPostgres({ durable: true });
let bad = 0;
try {
  for (let number = 1; number <= STORES; number += 1) bad += await one(server, number);
} finally {
  await server.stop();
}
process.exitCode = bad === 0 ? 0 : 1;
