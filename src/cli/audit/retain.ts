import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import {
  detachRetained,
  oldestDay,
  partitionsAhead,
  requireOperatorKey,
  removableBefore,
  removeCheckpoints,
  requestRetention,
  retentionRecorded,
} from '../../audit/index.ts';
import { AppError, EXIT, systemClock } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { counted, type Output, outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, findAuditDatabase } from './access.ts';
import { durationMs } from './moment.ts';

const DEFAULT_AHEAD_DAYS = 14;
const MAX_AHEAD_DAYS = 366;

interface RetainFlags extends DatabaseFlags {
  /** True: named without a count. */
  readonly ahead?: string | true;
  readonly keep?: string;
  readonly operatorKey?: string;
  readonly trust?: string;
  readonly request?: string;
  readonly drop?: boolean;
  readonly wait: string;
  readonly dryRun?: boolean;
}

const usage = (message: string): AppError<CliErrorCode> => new AppError('ERR_CLI_USAGE', message);

const ahead = async (databaseUrl: string, given: string | true, output: Output): Promise<void> => {
  const days = given === true ? DEFAULT_AHEAD_DAYS : Number(given);
  if (!Number.isInteger(days) || days < 0 || days > MAX_AHEAD_DAYS)
    throw usage(`--ahead ${JSON.stringify(given)} is not a count of days from 0 to ${MAX_AHEAD_DAYS}`);
  const failures = await partitionsAhead(databaseUrl, days);
  output.document({ ahead_days: days, failures: failures ?? null });
  output.line(
    failures === undefined
      ? `partitions are there for ${counted(days, 'day')} ahead`
      : `not all partitions were made: ${failures}`,
  );
  if (failures !== undefined) output.exitWith(EXIT.notSo);
};

/** Waits for the writer's word, then removes. */
const carryOut = async (
  databaseUrl: string,
  id: string,
  flags: RetainFlags,
  output: Output,
): Promise<void> => {
  output.progress(`request ${id}: waiting until a relay or agent has recorded it`);
  const recorded = await retentionRecorded(databaseUrl, id, durationMs('--wait', flags.wait), systemClock);
  output.progress(undefined);
  if (!recorded) {
    output.document({ retention_id: id, recorded: false, partitions: [] });
    output.line(
      `request ${id} was not recorded within ${flags.wait}; nothing was removed. A relay or agent records it when its ` +
        '`audit.trust_file` vouches for the operator. Go on within a day with:',
    );
    output.line(`  sallyport audit retain --request ${id}${flags.drop === true ? ' --drop' : ''}`);
    output.exitWith(EXIT.notSo);
    return;
  }
  const partitions = await detachRetained(databaseUrl, id, flags.drop === true);
  const checkpoints = await removeCheckpoints(databaseUrl, id);
  output.document({
    retention_id: id,
    recorded: true,
    partitions,
    dropped: flags.drop === true,
    checkpoints,
  });
  const fate =
    flags.drop === true ? 'dropped' : 'detached; each stays as a table with "_detached" behind its name';
  output.line(`${counted(partitions.length, 'partition')} ${fate}`);
  if (checkpoints > 0) output.line(`${counted(checkpoints, 'checkpoint')} of that time deleted`);
};

const DAY_MS = 86_400_000;

/** Why nothing goes yet: the oldest day, and from when on `--keep` of so much lets it go. */
const whyNothing = async (databaseUrl: string, keepMs: number, keep: string): Promise<string> => {
  const oldest = await oldestDay(databaseUrl);
  const rule = 'only whole past days (UTC) go';
  if (oldest === undefined) return `${rule}, and there is none`;
  const day = oldest.replace(/^(\d{4})(\d{2})(\d{2})$/, '$1-$2-$3');
  const goesMs = Date.parse(`${day}T00:00:00Z`) + DAY_MS + keepMs;
  return `${rule}; the oldest day here is ${day}, with --keep ${keep} it can go from ${new Date(goesMs).toISOString()} on`;
};

/** The trust file named, or the one beside the key, where `init` puts it. */
const trustFileOf = (flags: RetainFlags, keyFile: string): string | undefined => {
  if (flags.trust !== undefined) return flags.trust;
  const beside = join(dirname(keyFile), 'trust.json');
  return existsSync(beside) ? beside : undefined;
};

const retain = async (flags: RetainFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const asked = [flags.ahead, flags.keep, flags.request].filter((flag) => flag !== undefined).length;
  if (asked !== 1) throw usage('give one of --ahead, --keep, --request');
  const { databaseUrl } = findAuditDatabase(flags);
  if (flags.ahead !== undefined) return ahead(databaseUrl, flags.ahead, output);
  if (flags.request !== undefined) return carryOut(databaseUrl, flags.request, flags, output);

  const timeMs = systemClock.nowMs();
  const keepMs = durationMs('--keep', flags.keep ?? '');
  const beforeMs = timeMs - keepMs;
  if (flags.dryRun !== true && flags.operatorKey === undefined)
    throw usage('--keep needs --operator-key FILE to sign the request, or --dry-run');
  if (flags.operatorKey !== undefined) {
    const trustFile = trustFileOf(flags, flags.operatorKey);
    if (trustFile !== undefined) requireOperatorKey(flags.operatorKey, trustFile);
  }
  const removable = await removableBefore(databaseUrl, beforeMs);
  if (removable.heldBack !== undefined)
    output.note(`day ${removable.heldBack} holds seals of later time (a clock was ahead): it stays for now`);
  if (removable.days.length === 0 || flags.operatorKey === undefined || flags.dryRun === true) {
    output.document({ retention_id: null, recorded: false, partitions: [], removable });
    const what = `${counted(removable.days.length, 'day')} before ${new Date(beforeMs).toISOString()}`;
    output.line(
      removable.days.length === 0
        ? `nothing to remove: ${what}; ${await whyNothing(databaseUrl, keepMs, flags.keep ?? '')}`
        : `would be removed: ${what}`,
    );
    for (const day of removable.days) output.line(`  ${day}`);
    return;
  }
  const { operatorKey: operatorKeyFile } = flags;
  const request = await requestRetention({
    databaseUrl,
    operatorKeyFile,
    removable,
    timeMs,
    beforeMs,
    clock: systemClock,
  });
  await carryOut(databaseUrl, request.id, flags, output);
};

export const retainCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('retain')
      .summary('make partitions ahead; remove what need not be kept')
      .description(
        'With --ahead makes daily partitions. With --keep signs a request to remove the days before, waits until a relay or ' +
          'agent has recorded it in the trail, and detaches their partitions: `audit verify --keep` then knows what may be ' +
          'missing. Connects to: the audit database, as role audit_retention or its owner.',
      ),
  )
    .option('--ahead [days]', `make partitions for so many days ahead (default: ${DEFAULT_AHEAD_DAYS})`)
    .option(
      '--keep <duration>',
      'keep what is younger, e.g. 400d; request that the rest be removed, in whole past days (UTC): 0d is all of them',
    )
    .option(
      '--operator-key <file>',
      'private key of an operator of the trust file (`audit trust add --kind operator`)',
    )
    .option(
      '--trust <file>',
      'trust file that must not know the key as another kind (default: trust.json beside the key)',
    )
    .option('--request <id>', 'go on with a request that was signed before')
    .option('--drop', 'drop the partitions instead of keeping them as detached tables')
    .option('--wait <duration>', 'wait so long for the record: they look once a minute', '3m')
    .option('--dry-run', 'only say what would be removed')
    .action(retain);
};
