import type { Command } from 'commander';
import { type Finding, verifyAudit } from '../../audit/index.ts';
import { readControlChanges } from '../../control/index.ts';
import { AppError, EXIT } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { outputOf } from '../output.ts';
import {
  type AuditAccess,
  type DatabaseFlags,
  databaseOptions,
  findAuditDatabase,
  headFilesOf,
} from './access.ts';

interface VerifyFlags extends DatabaseFlags {
  readonly trust?: string;
  readonly root?: string;
  readonly heads?: readonly string[];
  readonly columns?: boolean;
  /** True: named without a URL. */
  readonly control?: string | true;
}

/** @throws AppError ERR_CLI_USAGE */
const controlUrlOf = (control: string | true, up: AuditAccess['up']): string => {
  const url = control === true ? up?.database_url : control;
  if (url !== undefined && /^postgres(ql)?:\/\//.test(url) && URL.canParse(url)) return url;
  const wrong = control === true ? 'needs a URL where no `up` is running' : 'is not a postgres:// URL';
  throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `--control ${wrong}`);
};

const verify = async (flags: VerifyFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const { databaseUrl, up } = findAuditDatabase(flags);
  // Read first: what is handed over meanwhile is then in the events, not missing from them.
  const changes =
    flags.control === undefined ? undefined : await readControlChanges(controlUrlOf(flags.control, up));
  const report = await verifyAudit({
    changes,
    databaseUrl,
    trustFile: flags.trust ?? up?.trust_file,
    root: flags.root,
    headFiles: flags.heads ?? headFilesOf(up),
    columns: flags.columns,
    onProgress: ({ chain, events }) => output.progress(`chain ${chain}: ${events} events`),
  });
  output.progress(undefined);
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
  for (const note of report.notes) output.note(note);
  const compared = report.changes === null ? '' : `, ${report.changes} changes`;
  const counts = `${report.chains} chains, ${report.seals} seals, ${report.events} events${compared}`;
  output.line(
    report.ok ? `verified: ${counts}` : `NOT verified: ${counts}, ${report.findings.length} findings`,
  );
  if (!report.ok) output.exitWith(EXIT.notSo);
};

export const verifyCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('verify')
      .summary('check all evidence')
      .description(
        'Checks every chain: leaves, roots, seals, signatures, contiguity, heads; names the seal and the event of each ' +
          'finding. With --control also that each change of the control plane has its event. Exits 1 on any finding. ' +
          'Connects to: the audit database, as role audit_verify or its owner; with --control to the control database.',
      ),
  )
    .option('--trust <file>', 'trust file: which signers to believe')
    .option('--root <hex>', 'public key of the audit root that must have signed the trust file')
    .option(
      '--heads <file...>',
      'head files of writers (head.json beside their spools): anchors against truncation',
    )
    .option(
      '--control [url]',
      'control database: name each change without an event (without a URL: that of the running `up`)',
    )
    .option('--columns', 'also compare every column with the event it is derived from')
    .action(verify);
};
