import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { ensureImporterRole, queryAudit } from '../../audit/index.ts';
import { AppError, messageOf } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, findAuditDatabase } from './access.ts';

interface SiteFlags extends DatabaseFlags {
  readonly login: string;
  readonly passwordFile: string;
}

const SITE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const passwordOf = (file: string): string => {
  let text: string;
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `--password-file ${file}: ${messageOf(cause)}`, {
      cause,
    });
  }
  if (text === '') throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `--password-file ${file} is empty`);
  return text;
};

const add = async (site: string, flags: SiteFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  if (!SITE_NAME.test(site)) {
    throw new AppError<CliErrorCode>(
      'ERR_CLI_USAGE',
      `a site is named by letters, digits, '.', '_' and '-', 64 at most, not ${JSON.stringify(site)}`,
    );
  }
  const { databaseUrl } = findAuditDatabase(flags);
  await ensureImporterRole(databaseUrl, flags.login, passwordOf(flags.passwordFile), site);
  output.document({ site, login: flags.login });
  output.line(`site ${site}: login ${flags.login} imports its evidence, and can do nothing else`);
};

const list = async (flags: DatabaseFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const { rows } = await queryAudit(
    findAuditDatabase(flags).databaseUrl,
    `select s.site, s.login::text as login, count(k.chain_id) as chains, coalesce(sum(k.events), 0)::bigint as events,
       max(k.last_sealed_at) as last_sealed_at, max(k.last_recorded_at) as last_import_at
     from audit.site as s left join audit.chain as k on k.site = s.site
     group by s.site, s.login order by s.site`,
  );
  output.document(rows);
  output.table(rows, [
    { title: 'site', value: (row) => String(row['site']) },
    { title: 'login', value: (row) => String(row['login']) },
    { title: 'chains', value: (row) => Number(row['chains']), align: 'right' },
    { title: 'events', value: (row) => Number(row['events']), align: 'right' },
    { title: 'last sealed', value: (row) => row['last_sealed_at'] as string | null },
    { title: 'last import', value: (row) => row['last_import_at'] as string | null },
  ]);
};

/** `sallyport audit site …` */
export const siteCommand = (audit: Command): void => {
  const site = audit.command('site').description('other sites whose evidence is imported here');
  databaseOptions(
    site
      .command('add')
      .description(
        'Makes the login that imports the evidence of a site; given again, with a new password. Connects to: the audit ' +
          'database, as its owner.',
      )
      .argument('<name>', 'name of the site, for ever'),
  )
    .requiredOption('--login <name>', 'login that it imports as')
    .requiredOption('--password-file <file>', 'file with its password')
    .action(add);
  databaseOptions(
    site
      .command('list')
      .description('Lists sites. Connects to: the audit database, as role audit_verify or its owner.'),
  ).action(list);
};
