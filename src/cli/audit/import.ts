import type { Command } from 'commander';
import { importEvidence } from '../../audit/index.ts';
import { counted, outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, findAuditDatabase } from './access.ts';

interface ImportFlags extends DatabaseFlags {
  readonly trust: string;
  readonly root?: string;
}

const importAction = async (directory: string, flags: ImportFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const report = await importEvidence({
    databaseUrl: findAuditDatabase(flags).databaseUrl,
    directory,
    trustFile: flags.trust,
    root: flags.root,
    onProgress: ({ step, events, totalEvents }) =>
      output.progress(`${step} ${events} of ${totalEvents} events`),
  });
  output.progress(undefined);
  output.document(report);
  const { site, events, chains, stored_events: stored, signer } = report;
  output.line(
    `site ${site}: ${counted(events, 'event')} of ${counted(chains, 'chain')} verified, signed by ${signer}; ${stored} are new`,
  );
  if (flags.root === undefined)
    output.note('the trust file was believed on its own word: --root pins the audit root of the other site');
};

export const importCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('import')
      .summary("take in another site's evidence")
      .description(
        'Verifies an export of another site (`audit export --format jsonl`) whole: manifest, files, signatures, seals, every ' +
          'event; then stores what is not there yet, marked with the name of the site. Connects to: the audit database, as ' +
          'the login that `audit site add` made for that site.',
      )
      .argument('<dir>', 'directory of the export'),
  )
    .requiredOption('--trust <file>', 'trust file of the other site')
    .option('--root <hex>', 'public key of the audit root that must have signed it')
    .action(importAction);
};
