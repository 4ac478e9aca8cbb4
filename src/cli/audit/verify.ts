import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import {
  type ControlChanges,
  type Finding,
  type SiteTrust,
  verifyAudit,
  type VerifyOptions,
  type VerifyReport,
} from '../../audit/index.ts';
import { AppError, EXIT, isAppError, systemClock } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { counted, type Output, outputOf } from '../output.ts';
import { verifyProof } from './prove.ts';
import {
  type AuditAccess,
  type DatabaseFlags,
  databaseOptions,
  findAuditDatabase,
  checkpointFilesOf,
  headFilesOf,
} from './access.ts';
import { durationMs, momentMs } from './moment.ts';
import { verifyProgress } from './verify-progress.ts';

interface VerifyFlags extends DatabaseFlags {
  readonly trust?: string;
  readonly root?: string;
  readonly heads?: readonly string[];
  readonly checkpoints?: readonly string[];
  readonly siteTrust?: readonly string[];
  readonly columns?: boolean;
  /** Check this file alone, without a database. */
  readonly proof?: string;
  readonly keep?: string;
  /** True: named without a URL. */
  readonly control?: string | true;
  readonly workers?: string;
  readonly resume?: string;
  readonly since?: string;
  readonly progress?: boolean;
}

const MAX_WORKERS = 64;

/** @throws AppError ERR_CLI_USAGE */
const workersOf = (text: string | undefined): number => {
  if (text === undefined) return Math.min(availableParallelism(), MAX_WORKERS);
  const workers = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (workers >= 1 && workers <= MAX_WORKERS) return workers;
  throw new AppError<CliErrorCode>(
    'ERR_CLI_USAGE',
    `--workers ${JSON.stringify(text)} is not a number from 1 to ${MAX_WORKERS}`,
  );
};

/** @throws AppError ERR_CLI_USAGE */
const controlUrlOf = (control: string | true, up: AuditAccess['up']): string => {
  const url = control === true ? up?.database_url : control;
  if (url !== undefined && /^postgres(ql)?:\/\//.test(url) && URL.canParse(url)) return url;
  const wrong = control === true ? 'needs a URL where no `up` is running' : 'is not a postgres:// URL';
  throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `--control ${wrong}`);
};

const changesOf = async (url: string): Promise<ControlChanges> =>
  (await import('../../control/index.ts')).readControlChanges(url);

/** `NAME=FILE`, or `NAME=FILE@ROOT` with the root's public key in hex. @throws AppError ERR_CLI_USAGE */
const siteTrustOf = (given: readonly string[]): Map<string, SiteTrust> =>
  new Map(
    given.map((text) => {
      const [, site, trustFile, root] = /^([^=]+)=(.+?)(?:@([0-9a-f]{64}))?$/.exec(text) ?? [];
      if (site !== undefined && trustFile !== undefined) return [site, { trustFile, root }];
      throw new AppError<CliErrorCode>(
        'ERR_CLI_USAGE',
        `--site-trust ${JSON.stringify(text)} is not NAME=FILE or NAME=FILE@ROOT`,
      );
    }),
  );

/** What is said about a database means nothing for a proof: it would seem to have been checked. */
const NOT_WITH_PROOF = {
  database: '--database',
  state: '--state',
  siteTrust: '--site-trust',
  heads: '--heads',
  checkpoints: '--checkpoints',
  control: '--control',
  keep: '--keep',
  columns: '--columns',
  workers: '--workers',
  resume: '--resume',
  since: '--since',
} as const satisfies Partial<Record<keyof VerifyFlags, string>>;

/** @throws AppError ERR_CLI_USAGE */
const checkProofFlags = (flags: VerifyFlags): void => {
  const given = Object.entries(NOT_WITH_PROOF).flatMap(([flag, name]) =>
    flags[flag as keyof typeof NOT_WITH_PROOF] === undefined ? [] : [name],
  );
  if (given.length > 0)
    throw new AppError<CliErrorCode>(
      'ERR_CLI_USAGE',
      `--proof asks no database and takes --trust and --root only, not ${given.join(', ')}`,
    );
  if (flags.root !== undefined && flags.trust === undefined)
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', '--root is of a trust file: give --trust as well');
};

/** The first interrupt stops between two pieces, the second one at once. */
const untilInterrupted = async (options: VerifyOptions, output: Output): Promise<VerifyReport> => {
  const stop = new AbortController();
  const end = (): void => {
    stop.abort();
    output.progress('stopping …');
  };
  process.once('SIGINT', end);
  process.once('SIGTERM', end);
  try {
    return await verifyAudit({ ...options, signal: stop.signal });
  } catch (thrown) {
    output.progress(undefined);
    if (isAppError(thrown) && thrown.code === 'ERR_AUDIT_VERIFY_STOPPED') {
      output.note(
        options.resumeFile === undefined
          ? 'nothing of it is kept: with --resume FILE a later run goes on where this one was stopped'
          : `the same command goes on from there: what was verified without a finding is in ${options.resumeFile}`,
      );
    }
    throw thrown;
  } finally {
    process.off('SIGINT', end);
    process.off('SIGTERM', end);
  }
};

const notReadText = ({ not_read: notRead }: VerifyReport): string | undefined => {
  if (notRead === null) return undefined;
  const { because, at, seals, events } = notRead;
  const what = `${counted(seals, 'seal')}, ${counted(events, 'event')}`;
  return because === 'since'
    ? `not read: ${what} from before ${at} (--since)`
    : `not read again: ${what} that earlier runs verified, the last one at ${at} (--resume)`;
};

const VERDICT = {
  full: 'verified',
  resumed: 'verified, with what earlier runs verified',
  partial: 'PARTIAL, nothing wrong in what was read',
} as const;

const showReport = (report: VerifyReport, output: Output): void => {
  output.document(report);
  if (report.findings.length > 0) {
    output.table<Finding>(report.findings, [
      { title: 'finding', value: (finding) => finding.kind },
      { title: 'chain', value: (finding) => finding.chain_id },
      { title: 'batch', value: (finding) => finding.batch_no, align: 'right' },
      { title: 'seq', value: (finding) => finding.seq, align: 'right' },
      { title: 'what', value: (finding) => finding.message },
    ]);
    if (report.more_findings > 0) output.line(`and ${report.more_findings} more`);
  }
  for (const { operator, time, before, batches, events } of report.retained)
    output.note(
      `retention: ${counted(batches, 'batch', 'batches')} (${counted(events, 'event')}) from before ${before}, asked by ${operator} at ${time}`,
    );
  for (const note of report.notes) output.note(note);
  const compared =
    (report.checkpoints === null ? '' : `, ${counted(report.checkpoints, 'checkpoint')}`) +
    (report.changes === null ? '' : `, ${counted(report.changes, 'change')}`);
  const counts = `${counted(report.chains, 'chain')}, ${counted(report.seals, 'seal')}, ${counted(report.events, 'event')}${compared}`;
  output.line(
    report.findings.length === 0
      ? `${VERDICT[report.coverage]}: ${counts}`
      : `NOT verified: ${counts}, ${counted(report.findings.length, 'finding')}`,
  );
  const notRead = notReadText(report);
  if (notRead !== undefined) output.line(notRead);
};

const verify = async (flags: VerifyFlags, command: Command): Promise<void> => {
  if (flags.proof !== undefined) {
    checkProofFlags(flags);
    verifyProof(flags.proof, { file: flags.trust, root: flags.root }, command);
    return;
  }
  if (flags.resume !== undefined && flags.since !== undefined) {
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', '--resume and --since exclude each other');
  }
  const output = outputOf(command);
  const { databaseUrl, up } = findAuditDatabase(flags);
  const options: VerifyOptions = {
    databaseUrl,
    trustFile: flags.trust ?? up?.trust_file,
    root: flags.root,
    siteTrust: siteTrustOf(flags.siteTrust ?? []),
    headFiles: flags.heads ?? headFilesOf(up),
    checkpointFiles: flags.checkpoints ?? checkpointFilesOf(up),
    columns: flags.columns,
    keepMs: flags.keep === undefined ? undefined : durationMs('--keep', flags.keep),
    workers: workersOf(flags.workers),
    resumeFile: flags.resume,
    sinceMs: flags.since === undefined ? undefined : momentMs('--since', flags.since, systemClock),
    onProgress: verifyProgress(output, { lines: flags.progress === true }),
  };
  // Read first: what is handed over meanwhile is then in the events, not missing from them.
  const changes = flags.control === undefined ? undefined : await changesOf(controlUrlOf(flags.control, up));
  const report = await untilInterrupted({ ...options, changes }, output);
  output.progress(undefined);
  showReport(report, output);
  if (report.findings.length > 0) output.exitWith(EXIT.notSo);
  else if (!report.ok) output.exitWith(EXIT.partial);
};

export const verifyCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('verify')
      .summary('check all evidence')
      .description(
        'Checks every chain: leaves, roots, seals, signatures, contiguity, heads, checkpoints; names the seal and the event of each ' +
          'finding. With --control also that each change of the control plane has its event. Exits 1 on any finding. ' +
          'Connects to: the audit database, as role audit_verify or its owner; with --control to the control database.',
      ),
  )
    .option('--trust <file>', 'trust file: which signers to believe')
    .option('--root <hex>', 'public key of the audit root that must have signed the trust file')
    .option(
      '--site-trust <name=file...>',
      'trust file of another site, for the chains imported from it; NAME=FILE@ROOT pins its audit root',
    )
    .option(
      '--heads <file...>',
      'head files of writers (head.json beside their spools): anchors against truncation',
    )
    .option(
      '--checkpoints <file...>',
      'checkpoints of writers (checkpoint_file, or what checkpoint_url received), kept elsewhere: anchors like --heads',
    )
    .option(
      '--control [url]',
      'control database: name each change without an event (without a URL: that of the running `up`)',
    )
    .option(
      '--proof <file>',
      'check what `audit prove` wrote, and nothing else: no database is asked; only with --trust and --root',
    )
    .option(
      '--keep <duration>',
      'what was younger than this when an operator had it removed must be there, e.g. 400d',
    )
    .option('--columns', 'also compare every column with the event it is derived from')
    .option('--workers <n>', 'threads, each with a connection of its own (default: one for each core)')
    .option(
      '--resume <file>',
      'remember there what was verified, and go on from there: what is in it is not read again; keep it to yourself',
    )
    .option(
      '--since <time>',
      'only what was sealed since: 30d, 2h, 2026-11-01T00:00:00Z; without a finding it exits 4, not 0',
    )
    .option('--progress', 'say how far it is also where there is no terminal')
    .action(verify);
};
