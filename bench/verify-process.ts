/**
 * How fast `audit verify` reads a store of generated streams, and what memory it takes: with one thread and with several,
 * with and without columns.
 *
 *     node --import tsx bench/verify-process.ts [--streams 50000,160000] [--days 10] [--workers 1,2] [--rounds 2]
 *
 * Starts a PostgreSQL of its own and removes it. Each run is a process of its own. With `--against DIR`, a checkout of
 * another version with its modules, that version runs in turn with this one (without threads and arguments it does not know).
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { auditDatabase } from '../test/audit/audit-fixture.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { resealStore } from '../test/support/resealed-audit-store.ts';
import { fillSizedStore } from '../test/support/sized-audit-store.ts';

const { values } = parseArgs({
  options: {
    streams: { type: 'string', default: '50000,160000' },
    days: { type: 'string', default: '10' },
    workers: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '2' },
    against: { type: 'string' },
  },
});
const LAST_DAY = '2026-11-20';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Run in a process of its own, so that its memory is that of nothing else. */
const RUN = `
  const [, verifyUrl, optionsText] = process.argv;
  const { verifyAudit } = await import(verifyUrl);
  const started = performance.now();
  const report = await verifyAudit(JSON.parse(optionsText));
  const ms = performance.now() - started;
  const { ok, events, seals } = report;
  console.log(JSON.stringify({ ok, events, seals, ms, first: report.findings[0], maxRssKib: process.resourceUsage().maxRSS }));`;

interface Run {
  readonly ok: boolean;
  readonly events: number;
  readonly seals: number;
  readonly ms: number;
  readonly maxRssKib: number;
}

const runVerify = (root: string, options: object): Run => {
  const file = `file://${join(root, 'src/audit/index.ts')}`;
  const args = ['--import', 'tsx', '--input-type=module', '--eval', RUN, file, JSON.stringify(options)];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  const run = JSON.parse(stdout) as Run;
  if (!run.ok) throw new Error(stdout);
  return run;
};

const here = fileURLToPath(new URL('..', import.meta.url));
const kinds = [
  ...(values.against === undefined ? [] : [{ name: 'other version', root: values.against, options: {} }]),
  ...values.workers.split(',').map((workers) => ({
    name: `${workers} thread${workers === '1' ? '' : 's'}`,
    root: here,
    options: { workers: Number(workers) },
  })),
];

const directory = mkdtempSync(join(tmpdir(), 'sallyport-bench-verify-'));
const server = await startPostgres();
try {
  for (const [index, streams] of values.streams.split(',').map(Number).entries()) {
    const { owner } = await auditDatabase(server);
    const store = await fillSizedStore(owner, { streams, days: Number(values.days), lastDay: LAST_DAY });
    const trustFile = await resealStore(owner, join(directory, String(index)));
    say(
      `\n${store.events} events\n\n| columns | what | events/s, each round | peak RSS, MiB |\n|---|---|---|---|`,
    );
    for (const columns of [false, true]) {
      const runs = new Map<string, Run[]>(kinds.map(({ name }) => [name, []]));
      for (let round = 0; round < Number(values.rounds); round += 1) {
        for (const { name, root, options } of kinds) {
          runs.get(name)?.push(runVerify(root, { databaseUrl: owner, trustFile, columns, ...options }));
        }
      }
      for (const [name, of] of runs) {
        const rates = of.map(({ events, ms }) => Math.round((events / ms) * 1_000)).join(', ');
        const rss = Math.max(...of.map(({ maxRssKib }) => maxRssKib / 1_024)).toFixed(0);
        say(`| ${columns ? 'yes' : 'no'} | ${name} | ${rates} | ${rss} |`);
      }
    }
  }
} finally {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
}
