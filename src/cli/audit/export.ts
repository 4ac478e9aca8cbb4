import { open, rename, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import {
  EXPORTER_KIND,
  exportEvidence,
  type ExportInterval,
  exportLines,
  type ExportProgress,
  LINE_FORMAT_NAMES,
  type LineFormatName,
  type NoticeOptions,
  openAuditKey,
} from '../../audit/index.ts';
import { AppError, foreignCodeOf, PRIVATE_FILE_MODE, systemClock } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { counted, type Output, outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, findAuditDatabase } from './access.ts';
import { durationMs, momentMs } from './moment.ts';

interface ExportFlags extends DatabaseFlags {
  readonly format: string;
  readonly from?: string;
  readonly to?: string;
  readonly output?: string;
  readonly key?: string;
  readonly wait?: string;
  /** False: `--no-record`. */
  readonly record: boolean;
}

const PERCENT = 100;

const usage = (message: string): AppError<CliErrorCode> => new AppError('ERR_CLI_USAGE', message);

/** @throws AppError ERR_CLI_USAGE */
const intervalOf = (flags: ExportFlags): ExportInterval => {
  const instant = (option: string, text: string | undefined): string | undefined =>
    text === undefined ? undefined : new Date(momentMs(option, text, systemClock)).toISOString();
  const interval = { from: instant('--from', flags.from), to: instant('--to', flags.to) };
  if (interval.from !== undefined && interval.to !== undefined && interval.from >= interval.to)
    throw usage(`--from ${interval.from} is not before --to ${interval.to}`);
  return interval;
};

/** @throws AppError ERR_CLI_USAGE */
const noticeOf = (flags: ExportFlags, target: string): NoticeOptions | undefined => {
  if (!flags.record) {
    if (flags.wait !== undefined) throw usage('--wait is for the record that --no-record leaves out');
    return undefined;
  }
  const waitMs = flags.wait === undefined ? undefined : durationMs('--wait', flags.wait);
  const output = target === '-' ? target : resolve(target);
  return { output, waitMs, clock: systemClock };
};

const progressOn =
  (output: Output) =>
  ({ events, totalEvents }: ExportProgress): void => {
    const share = totalEvents === 0 ? '' : ` (${Math.floor((events / totalEvents) * PERCENT)} %)`;
    output.progress(`${events} of ${totalEvents} events${share}`);
  };

const toStdout = (text: string): Promise<void> =>
  text === ''
    ? Promise.resolve()
    : new Promise((resolve, reject) => {
        process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
      });

/** Writes beside the file and gives it its name at the end: what has the name is whole. */
const intoFile = async (
  file: string,
  call: (write: (text: string) => Promise<void>) => Promise<number>,
): Promise<number> => {
  const part = `${file}.part`;
  const exists = await open(file).catch(() => undefined);
  await exists?.close();
  if (exists !== undefined) throw new AppError<CliErrorCode>('ERR_CLI_FILE_EXISTS', `${file} exists already`);
  let handle;
  try {
    handle = await open(part, 'wx', PRIVATE_FILE_MODE);
  } catch (cause) {
    if (foreignCodeOf(cause) !== 'EEXIST')
      throw usage(`${file} cannot be written: ${String(foreignCodeOf(cause))}`);
    throw new AppError<CliErrorCode>(
      'ERR_CLI_FILE_EXISTS',
      `${part} is there: of an export that was cut off, or still runs`,
    );
  }
  try {
    const written = await call((text) => handle.appendFile(text));
    await handle.sync();
    await handle.close();
    await rename(part, file);
    return written;
  } catch (thrown) {
    await handle.close().catch(() => undefined);
    await rm(part, { force: true });
    throw thrown;
  }
};

const lines = async (flags: ExportFlags, format: LineFormatName, output: Output): Promise<void> => {
  if (flags.key !== undefined) throw usage(`--key signs evidence: --format jsonl, not ${format}`);
  const target = flags.output ?? '-';
  const run = (write: (text: string) => Promise<void>): Promise<number> =>
    exportLines({
      databaseUrl: findAuditDatabase(flags).databaseUrl,
      interval: intervalOf(flags),
      notice: noticeOf(flags, target),
      format,
      write,
      onProgress: progressOn(output),
    });
  const written = target === '-' ? await run(toStdout) : await intoFile(target, run);
  output.progress(undefined);
  if (target !== '-') {
    output.document({ format, output: target, events: written });
    output.line(`${target}: ${counted(written, 'event')}`);
  } else {
    output.note(counted(written, 'event'));
  }
};

const evidence = async (flags: ExportFlags, output: Output): Promise<void> => {
  const directory = flags.output;
  if (directory === undefined || directory === '-')
    throw usage('evidence is a directory of files with a signed manifest: give -o DIR');
  if (flags.key === undefined)
    throw usage('evidence is signed: give --key FILE, a key that is made when it is not there');
  const interval = intervalOf(flags);
  const { databaseUrl } = findAuditDatabase(flags);
  const key = openAuditKey(flags.key);
  const manifest = await exportEvidence({
    databaseUrl,
    interval,
    notice: noticeOf(flags, directory),
    directory,
    key,
    clock: systemClock,
    onProgress: progressOn(output),
  });
  output.progress(undefined);
  const { events, batches, chains, files } = manifest;
  output.document({
    format: 'jsonl',
    output: directory,
    events,
    batches,
    chains: chains.length,
    files: files.length,
    signer: key.signer,
  });
  output.line(
    `${directory}: ${counted(events, 'event')} in ${counted(batches, 'batch', 'batches')} of ${counted(chains.length, 'chain')}, signed by ${key.signer}`,
  );
  output.note(
    `who imports it needs this site's trust file, with ${key.signer} in it as ${EXPORTER_KIND}: ` +
      `sallyport audit trust add --kind ${EXPORTER_KIND} --key ${flags.key} --name … --root-key … --trust …`,
  );
};

const exportAction = async (flags: ExportFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const format = LINE_FORMAT_NAMES.find((name) => name === flags.format);
  if (format !== undefined) return lines(flags, format, output);
  if (flags.format === 'jsonl') return evidence(flags, output);
  throw usage(`--format is ${LINE_FORMAT_NAMES.join(', ')} or jsonl, not ${JSON.stringify(flags.format)}`);
};

export const exportCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('export')
      .summary('write events for a SIEM, or evidence for somebody else')
      .description(
        'Writes the events of a time: as OCSF events (ocsf), as an OPA decision log (opa), as a table (csv), or as evidence ' +
          'with its seals and a signed manifest (jsonl), which `audit import` verifies elsewhere. A relay or agent records ' +
          'that it was exported (`audit.exported`). Connects to: the audit database, as role audit_verify or its owner.',
      ),
  )
    .requiredOption('--format <format>', 'ocsf, opa, csv or jsonl')
    .option(
      '--from <when>',
      'events from then on: 2026-11-01T00:00:00Z, or 24h for so long ago (default: the first)',
    )
    .option('--to <when>', 'events before then (default: the last)')
    .option('-o, --output <path>', 'file, or - for stdout; for jsonl an empty or new directory (default: -)')
    .option('--key <file>', 'jsonl: key that signs the manifest, made when it is not there')
    .option(
      '--wait <duration>',
      'export only when a relay or agent has recorded within that time that it begins: they look once a minute',
    )
    .option('--no-record', 'leave no event: for a database that cannot be written, such as a standby')
    .action(exportAction);
};
