import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { AuditReader, headFileOf } from '../../audit/index.ts';
import { AppError, environment } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { CHECKPOINT_FILE } from '../deploy/settings.ts';
import { findRunningUp, type ReadyFile, requireRunningUp } from '../ready-file.ts';

export interface DatabaseFlags {
  readonly database?: string;
  readonly state?: string;
  /** Through connection `audit-db` of the running `up`, as its reader. */
  readonly tunnel?: boolean;
}

/** Adds the options that say which audit database is meant. */
export const databaseOptions = (command: Command): Command =>
  command
    .option('--database <url>', 'audit database; default: DATABASE_URL, else that of a running `up`')
    .option('--state <dir>', 'state of a running `up` (default: ./.sallyport)');

export interface AuditAccess {
  readonly databaseUrl: string;
  /** The `up` that the database belongs to, when it was found that way. */
  readonly up: ReadyFile | undefined;
}

/** Options, then environment, then a running `up`. @throws AppError ERR_CLI_USAGE */
export const findAuditDatabase = (flags: DatabaseFlags): AuditAccess => {
  if (flags.tunnel === true) {
    const up = requireRunningUp(flags.state);
    if (up.audit_read_url !== null) return { databaseUrl: up.audit_read_url, up };
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', 'the running `up` does not publish its audit database');
  }
  const fromEnvironment = flags.state === undefined ? environment['DATABASE_URL'] : undefined;
  const url = flags.database ?? (fromEnvironment === '' ? undefined : fromEnvironment);
  if (url !== undefined) {
    if (!/^postgres(ql)?:\/\//.test(url) || !URL.canParse(url)) {
      throw new AppError<CliErrorCode>('ERR_CLI_USAGE', '--database is not a postgres:// URL');
    }
    return { databaseUrl: url, up: undefined };
  }
  const up = findRunningUp(flags.state);
  if (up !== undefined) return { databaseUrl: up.database_url, up };
  throw new AppError<CliErrorCode>(
    'ERR_CLI_USAGE',
    'which audit database? give --database URL (or DATABASE_URL), or --state of a running `up`',
  );
};

/** Runs something with a connection to the audit database that the flags name, and closes it. */
export const withReader = async <T>(
  flags: DatabaseFlags,
  run: (reader: AuditReader) => Promise<T>,
): Promise<T> => {
  const reader = await AuditReader.connect(findAuditDatabase(flags).databaseUrl);
  try {
    return await run(reader);
  } finally {
    await reader.close();
  }
};

/** Head files of the writers of a running `up`: they are outside its database. */
export const headFilesOf = (up: ReadyFile | undefined): string[] =>
  up === undefined
    ? []
    : ['relay', 'agent']
        .map((name) => headFileOf(join(up.state_dir, name, 'spool')))
        .filter((file) => existsSync(file));

const namesIn = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory) : []);

/** Checkpoint files of the writers of a running `up`, each with those that followed it; undefined when there is none yet. */
export const checkpointFilesOf = (up: ReadyFile | undefined): string[] | undefined => {
  if (up === undefined) return undefined;
  const files = ['relay', 'agent'].flatMap((writer) => {
    const directory = join(up.state_dir, writer);
    return namesIn(directory)
      .filter((name) => name === CHECKPOINT_FILE || name.startsWith(`${CHECKPOINT_FILE}.`))
      .map((name) => join(directory, name));
  });
  return files.length === 0 ? undefined : files;
};
