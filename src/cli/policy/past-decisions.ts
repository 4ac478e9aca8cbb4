import { type HoursOfUse, hoursOfUse, type RecordedDecision, recordedDecisions } from '../../audit/index.ts';
import type { PastDecision } from '../../policy/index.ts';
import { systemClock } from '../../runtime/index.ts';
import { type DatabaseFlags, databaseOptions, withReader } from '../audit/access.ts';
import { momentMs } from '../audit/moment.ts';
import { counted, type Output } from '../output.ts';
import type { Command } from 'commander';

export interface PastFlags extends DatabaseFlags {
  readonly since: string;
  readonly until?: string;
}

/** Adds the options that say which recorded decisions are meant. */
export const pastOptions = (command: Command, since = '30d'): Command =>
  databaseOptions(command)
    .option(
      '--since <time>',
      'decisions of the last 30s, 10m, 2h, 30d, or since an instant in RFC 3339',
      since,
    )
    .option('--until <time>', 'and before this; default: now');

/** Codes of the guard and of managed settings: they stand in a denial beside those of policy, and no policy answers with them. */
const GUARD_CODES = new Set(['guard_denied', 'loop', 'managed_denied']);

const pastOf = ({ eventId, at, action, connection, data }: RecordedDecision): PastDecision => ({
  eventId,
  at,
  action,
  connection,
  allow: data.allow,
  decidedBy: data.decided_by,
  rule: data.rule ?? null,
  rules: data.rules ?? { publish: [], stream: [] },
  reasons: (data.reasons ?? []).map(({ code }) => code).filter((code) => !GUARD_CODES.has(code)),
  input: data.input,
  addresses: (data.candidates ?? [])
    .filter(({ verdict }) => verdict === 'allowed' || verdict === 'denied')
    .map(({ address }) => address),
  allowedAddresses: (data.candidates ?? [])
    .filter(({ verdict }) => verdict === 'allowed')
    .map(({ address }) => address),
  count: data.count ?? 1,
});

export interface PastRange {
  /** RFC 3339. */
  readonly from: string;
  readonly to: string;
}

/** The time that the options name. @throws AppError ERR_CLI_USAGE */
export const pastRange = (flags: PastFlags): PastRange => {
  const fromMs = momentMs('--since', flags.since, systemClock);
  const toMs =
    flags.until === undefined ? systemClock.nowMs() : momentMs('--until', flags.until, systemClock);
  return { from: new Date(fromMs).toISOString(), to: new Date(toMs).toISOString() };
};

/**
 * Hands over the recorded decisions page by page, with progress on a terminal. Decisions of a shadow bundle were never
 * in force and are left out.
 * @throws AppError ERR_CLI_USAGE, ERR_AUDIT_DATABASE, ERR_AUDIT_QUERY_FAILED
 */
export const forPastDecisions = async (
  flags: PastFlags,
  range: PastRange,
  output: Output,
  take: (page: readonly PastDecision[]) => Promise<void> | void,
): Promise<void> => {
  try {
    await withReader(flags, async (reader) => {
      let events = 0;
      let decisions = 0;
      for await (const page of recordedDecisions(reader, range)) {
        await take(page.decisions.filter(({ data }) => data.shadow !== true).map(pastOf));
        events += page.events;
        decisions += page.decisions.length;
        const percent = page.totalEvents === 0 ? 100 : Math.floor((100 * events) / page.totalEvents);
        output.progress(`${String(percent)} %: ${counted(decisions, 'decision')}`);
      }
    });
  } finally {
    output.progress(undefined);
  }
};

/**
 * Hands over the hours that streams lasted into beyond the one they were opened in.
 * @throws AppError ERR_CLI_USAGE, ERR_AUDIT_DATABASE, ERR_AUDIT_QUERY_FAILED
 */
export const forHoursOfUse = async (
  flags: PastFlags,
  range: PastRange,
  output: Output,
  take: (use: HoursOfUse) => void,
): Promise<void> => {
  try {
    await withReader(flags, async (reader) => {
      output.progress('how long streams lasted …');
      for await (const use of hoursOfUse(reader, range)) take(use);
    });
  } finally {
    output.progress(undefined);
  }
};
