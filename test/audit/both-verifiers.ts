import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type VerifyOptions, type VerifyReport, verifyAudit } from '../../src/audit/index.ts';
import { readControlChanges } from '../../src/control/index.ts';
import { findProgram, projectRoot, runCommand } from '../support/command.ts';
import { PYTHON, pythonMissing } from '../support/python.ts';

const VERIFIER = join(projectRoot, 'verifier');

/** Why the second verifier cannot run here, or false. */
export const secondVerifierMissing: string | false =
  pythonMissing || (findProgram('psql') === undefined ? 'missing psql (Debian: postgresql-client)' : false);

/** Runs the verifier in Python with these arguments, and returns its report and exit code. */
export const runSecondVerifier = async (
  args: readonly string[],
  deadlineMs?: number,
): Promise<{ code: number | null; stdout: string; stderr: string }> =>
  runCommand(PYTHON, ['-B', VERIFIER, '--json', ...args], deadlineMs === undefined ? {} : { deadlineMs });

/** Places of findings, each once; of findings that have none, how many of each kind there are. */
const placesOf = (report: VerifyReport): string[] => {
  const placed = report.findings.filter(({ chain_id }) => chain_id !== null);
  const counts = new Map<string, number>();
  for (const { kind, chain_id } of report.findings)
    if (chain_id === null) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [
    ...new Set(
      placed.map(
        ({ kind, chain_id, batch_no, seq }) =>
          `${kind} chain ${chain_id ?? '-'} batch ${batch_no ?? '-'} seq ${seq ?? '-'}`,
      ),
    ),
    ...[...counts].map(([kind, count]) => `${kind} ${count} times`),
  ].sort();
};

/** What two verifiers must say alike: everything but their words and their order. */
const comparable = (report: VerifyReport): object => ({
  ok: report.ok,
  chains: report.chains,
  seals: report.seals,
  events: report.events,
  truncation: report.truncation,
  breaks: report.breaks,
  dropped: report.dropped,
  more_findings: report.more_findings,
  checkpoints: report.checkpoints,
  changes: report.changes,
  retained: [...report.retained].sort((a, b) => a.retention_id.localeCompare(b.retention_id)),
  findings: placesOf(report),
});

/** What both are given; the control database by its URL, which each reads by itself. */
export interface BothOptions extends Omit<VerifyOptions, 'changes'> {
  readonly controlUrl?: string | undefined;
}

const argumentsOf = (options: BothOptions): string[] => [
  '--database',
  options.databaseUrl,
  ...(options.trustFile === undefined ? [] : ['--trust', options.trustFile]),
  ...[...(options.siteTrust ?? [])].flatMap(([name, { trustFile, root }]) => [
    '--site-trust',
    `${name}=${trustFile}${root === undefined ? '' : `@${root}`}`,
  ]),
  ...(options.headFiles === undefined ? [] : ['--heads', ...options.headFiles]),
  ...(options.checkpointFiles === undefined ? [] : ['--checkpoints', ...options.checkpointFiles]),
  ...(options.keepMs === undefined ? [] : ['--keep', `${options.keepMs}ms`]),
  ...(options.controlUrl === undefined ? [] : ['--control', options.controlUrl]),
  ...(options.columns === true ? ['--columns'] : []),
];

/** Pieces as small as can be, on a thread, now and then on two: what is found, and in which order, must not depend on them. */
const TWO_THREADS_EVERY = 4;
let comparisons = 0;
const inPieces = (): { workers: number; pieceBatches: number } => {
  comparisons += 1;
  return { workers: comparisons % TWO_THREADS_EVERY === 0 ? 2 : 1, pieceBatches: 1 };
};

/** A writer that is still open stores a heartbeat a minute: whoever reads later sees more. */
const ATTEMPTS = 3;

/**
 * Verifies with one thread, with several, and with the second verifier, and returns the report of the first. Where the second
 * cannot run, only the first does; a test of its own says so by being skipped. Begins again when the store grew meanwhile.
 * @throws AssertionError when they do not agree.
 */
export const verifyTwice = async (options: BothOptions, attempt = 1): Promise<VerifyReport> => {
  const { controlUrl, ...others } = options;
  const changes = controlUrl === undefined ? undefined : await readControlChanges(controlUrl);
  const all = { ...others, ...(changes === undefined ? {} : { changes }) };
  const first = await verifyAudit(all);
  const pieces = await verifyAudit({ ...all, ...inPieces() });
  const second = secondVerifierMissing === false ? await runSecondVerifier(argumentsOf(options)) : undefined;
  if (second !== undefined) assert.match(second.stdout, /^\{/, second.stderr);
  const said = second && (JSON.parse(second.stdout) as VerifyReport);
  const grew = pieces.events > first.events || (said?.events ?? 0) > pieces.events;
  if (grew && attempt < ATTEMPTS) return verifyTwice(options, attempt + 1);
  assert.deepEqual(pieces, first);
  if (second === undefined || said === undefined) return first;
  assert.equal(second.code, first.ok ? 0 : 1, second.stderr);
  assert.deepEqual(comparable(said), comparable(first));
  return first;
};
