/**
 * One store that grows through the product's own path (spool, seals, writer, all indexes): at each size how fast events came
 * in, how fast both verifiers read it, what a proof and the twenty questions take, and the exponents.
 *
 *     node --import tsx bench/audit-growth-process.ts [--events 100000,1000000] [--proofs 100] [--no-second]
 *
 * `--events`: sizes at which the store is looked at, rising. Starts a durable PostgreSQL of its own and removes it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  addSigner,
  type AuditEventInput,
  AuditReader,
  createAuditRoot,
  openAuditKey,
  proveEvent,
  verifyAudit,
} from '../src/audit/index.ts';
import { systemClock } from '../src/runtime/index.ts';
import { auditDatabase, decision, ending, openLog, rowsOf } from '../test/audit/audit-fixture.ts';
import { runSecondVerifier } from '../test/audit/both-verifiers.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { showGrowth, type Sized, timeQuestions } from './audit-questions.ts';

const { values } = parseArgs({
  options: {
    events: { type: 'string', default: '100000,1000000' },
    proofs: { type: 'string', default: '100' },
    'no-second': { type: 'boolean', default: false },
  },
});
const SIZES = values.events.split(',').map(Number);
const PROOFS = Number(values.proofs);
const GROUP_STREAMS = 1_000;
const WAIT_MS = 3_600_000;
const PRINCIPALS = 50;
const CONNECTIONS = 20;
const TARGETS = 200;
const DENIED_OF = 50;
const PERCENT = 100;
/** Rows that the sample takes for each that is proved, so that there are enough. */
const SAMPLED_FOR_ONE = 3;

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const perSecond = (events: number, ms: number): number => Math.round((1_000 * events) / ms);

/** The same event of another principal, connection and target; primes, so that pairs mix. */
const varied = (event: AuditEventInput, number: number): AuditEventInput => {
  const principal = (number * 7919) % PRINCIPALS;
  const target = (number * 104_729 + Math.floor(number / PRINCIPALS)) % TARGETS;
  const subject = {
    ...event.subject,
    connection: `connection-${principal % CONNECTIONS}`,
    principal: `application-${principal}`,
    key_id: `k_${principal.toString(16).padStart(20, '0')}`,
    target_host: `server-${target}.corp.example`,
  };
  return { ...event, subject };
};

const directory = mkdtempSync(join(tmpdir(), 'sallyport-bench-growth-'));
const files = { rootKeyFile: join(directory, 'root.pem'), trustFile: join(directory, 'trust.json') };
const server = await startPostgres({ durable: true });
const results: Sized[] = [];
try {
  const { owner, writer } = await auditDatabase(server);
  createAuditRoot(files);
  const { publicKey } = openAuditKey(join(directory, 'audit-key.pem'));
  addSigner({ ...files, publicKey, kind: 'agent', name: 'agent-1', clock: systemClock });
  const timed = async <T>(call: () => Promise<T>): Promise<{ readonly ms: number; readonly value: T }> => {
    const startedMs = performance.now();
    const value = await call();
    return { ms: performance.now() - startedMs, value };
  };
  let streams = 0;
  let filledBy = '';
  for (const size of SIZES) {
    const before = 2 * streams;
    const filled = await timed(async () => {
      const log = await openLog(directory, { maxSpoolBytes: 64 * 1024 ** 3, database: { url: writer } });
      while (2 * streams < size) {
        const numbers = Array.from({ length: GROUP_STREAMS }, (_, index) => streams + index);
        const decided = Promise.all(
          numbers.map((number) => log.record(varied(decision(number, number % DENIED_OF !== 0), number))),
        );
        for (const number of numbers) {
          if (number % DENIED_OF !== 0) log.note(varied(ending(number), number));
        }
        await decided;
        streams += GROUP_STREAMS;
      }
      await log.flush(WAIT_MS);
      await log.close();
    });
    await rowsOf(owner, 'vacuum analyze audit.event');
    const [store] = await rowsOf(
      owner,
      "select count(*)::int as events, to_char(min(recorded_at) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as first, to_char((min(recorded_at) + interval '2 seconds') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as then from audit.event",
    );
    const events = Number(store?.events);
    filledBy ||= String(store?.then);
    const options = { databaseUrl: owner, trustFile: files.trustFile, workers: 2 };
    const plain = await timed(() => verifyAudit({ ...options, columns: false }));
    const whole = await timed(() => verifyAudit({ ...options, columns: true }));
    if (!plain.value.ok || !whole.value.ok) throw new Error(JSON.stringify(whole.value.findings[0]));
    const second = values['no-second']
      ? undefined
      : await timed(() =>
          runSecondVerifier(['--database', owner, '--trust', files.trustFile, '--columns'], WAIT_MS),
        );
    if (second !== undefined && second.value.code !== 0) throw new Error(second.value.stdout);
    const percent = Math.min(PERCENT, (SAMPLED_FOR_ONE * PERCENT * PROOFS) / events);
    const picked = await rowsOf(
      owner,
      `select event_id from audit.event tablesample bernoulli (${percent}) order by random() limit ${PROOFS}`,
    );
    const reader = await AuditReader.connect(owner);
    const proved = await timed(async () => {
      for (const row of picked) await proveEvent(reader, String(row.event_id));
    });
    await reader.close();
    const questions = await timeQuestions(owner, 'the first two seconds', {
      from: String(store?.first),
      to: filledBy,
    });
    say(
      JSON.stringify({
        events,
        ingested_per_second: perSecond(2 * streams - before, filled.ms),
        verified_per_second: perSecond(events, plain.ms),
        verified_with_columns_per_second: perSecond(events, whole.ms),
        ...(second === undefined ? {} : { second_verifier_per_second: perSecond(events, second.ms) }),
        proofs_per_second: perSecond(picked.length, proved.ms),
      }),
    );
    results.push({
      events,
      took: new Map([
        ['verify | all', plain.ms],
        ['verify --columns | all', whole.ms],
        ['prove | one event', proved.ms / picked.length],
        ...questions,
      ]),
    });
  }
} finally {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
}
showGrowth(results);
