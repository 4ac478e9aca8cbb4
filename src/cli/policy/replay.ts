import { closeSync, openSync, writeSync } from 'node:fs';
import { type Command, Option } from 'commander';
import {
  type ChangedDecision,
  type ReplayAnswer,
  type ReplayChange,
  type ReplayCounts,
  type ReplayGroup,
  ReplayGroups,
  replayBundle,
} from '../../policy/index.ts';
import { AppError, EXIT, foreignCodeOf, messageOf, systemClock } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { counted, type Output, outputOf } from '../output.ts';
import { grantsOf, readBundleArgument } from './bundle-argument.ts';
import { forPastDecisions, type PastFlags, pastOptions, pastRange } from './past-decisions.ts';

const FAIL_ON = ['newly-denied', 'newly-allowed', 'any', 'never'] as const;

interface ReplayFlags extends PastFlags {
  readonly bundle: string;
  readonly grants?: string;
  readonly failOn: (typeof FAIL_ON)[number];
  readonly changes?: string;
}

/** Rows of the table on a terminal; --json has all. */
const MAX_ROWS = 200;

const CHANGE_TEXT: Readonly<Record<ReplayChange, string>> = {
  error: 'no verdict',
  newly_denied: 'newly denied',
  newly_allowed: 'newly allowed',
  rule: 'other rule',
  reasons: 'other reasons',
};

const answerText = (answer: ReplayAnswer | null): string => {
  if (answer === null) return 'no verdict';
  return answer.allow ? `allow ${answer.rule ?? ''}` : `deny ${answer.reasons.join(', ')}`;
};

const fails = (counts: ReplayCounts, failOn: ReplayFlags['failOn']): boolean => {
  // Without a verdict an agent denies: an error is a denial of what was allowed, and never only a note.
  switch (failOn) {
    case 'never':
      return false;
    case 'newly-denied':
      return counts.newly_denied + counts.error > 0;
    case 'newly-allowed':
      return counts.newly_allowed + counts.error > 0;
    case 'any':
      return counts.decisions > counts.same + Object.values(counts.not_compared).reduce((a, b) => a + b, 0);
  }
};

/** Writes each changed decision as a line of JSON. */
const openChanges = (file: string): { write: (changed: ChangedDecision) => void; close: () => void } => {
  try {
    const descriptor = openSync(file, 'w');
    return {
      write: (changed) => {
        writeSync(descriptor, `${JSON.stringify(changed)}\n`);
      },
      close: () => closeSync(descriptor),
    };
  } catch (cause) {
    const why = foreignCodeOf(cause) ?? messageOf(cause);
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `--changes ${file} cannot be written: ${why}`, {
      cause,
    });
  }
};

const print = (
  output: Output,
  counts: ReplayCounts,
  groups: readonly ReplayGroup[],
  seconds: number,
): void => {
  const rate = seconds > 0 ? Math.round(counts.events / seconds) : 0;
  output.line(
    `${counted(counts.decisions, 'decision')} in ${counted(counts.events, 'event')}, ${seconds.toFixed(1)} s (${String(rate)} a second)`,
  );
  output.line(
    `${String(counts.newly_denied)} newly denied, ${String(counts.newly_allowed)} newly allowed, ` +
      `${String(counts.rule)} by another rule, ${String(counts.reasons)} denied for other reasons, ` +
      `${String(counts.error)} without a verdict, ${String(counts.same)} the same`,
  );
  for (const [by, count] of Object.entries(counts.not_compared)) {
    output.line(`${String(count)} not compared: decided by ${by}`);
  }
  if (groups.length === 0) return;
  output.line();
  output.table(groups.slice(0, MAX_ROWS), [
    { title: 'change', value: ({ change }) => CHANGE_TEXT[change] },
    { title: 'decisions', value: ({ decisions }) => decisions, align: 'right' },
    { title: 'of', value: ({ action }) => action },
    { title: 'connection', value: ({ connection }) => connection },
    { title: 'principal', value: ({ principal }) => principal },
    { title: 'target', value: ({ target }) => target },
    { title: 'was', value: ({ was }) => answerText(was) },
    { title: 'would be', value: ({ now, detail }) => (now === null ? detail : answerText(now)) },
    { title: 'last', value: ({ last_at: last }) => last },
    { title: 'for example', value: ({ examples }) => examples[0] },
  ]);
  if (groups.length > MAX_ROWS) output.line(`and ${String(groups.length - MAX_ROWS)} more; --json has all`);
};

const replay = async (flags: ReplayFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const range = pastRange(flags);
  const bytes = await readBundleArgument(flags.bundle);
  const changes = flags.changes === undefined ? undefined : openChanges(flags.changes);
  const groups = new ReplayGroups();
  const startedMs = systemClock.monotonicMs();
  try {
    const { bundle, counts } = await replayBundle(
      bytes,
      (changed) => {
        groups.add(changed);
        changes?.write(changed);
      },
      (run) => forPastDecisions(flags, range, output, run),
      grantsOf(flags.grants),
    );
    const seconds = (systemClock.monotonicMs() - startedMs) / 1_000;
    const ok = !fails(counts, flags.failOn);
    const all = groups.all();
    output.document({
      ok,
      ...range,
      bundle,
      counts,
      groups: all,
      ungrouped: groups.ungrouped,
      seconds: Number(seconds.toFixed(3)),
    });
    print(output, counts, all, seconds);
    if (groups.ungrouped > 0)
      output.line(
        `${String(groups.ungrouped)} changed decisions are in no row: too many kinds; --changes FILE has every one`,
      );
    if (counts.newly_denied > 0 && flags.grants === undefined)
      output.note(
        'asked with the grants of the bundle: what a grants file of an agent (policy.data_file) allowed is newly denied here; --grants FILE puts it in their place',
      );
    if (counts.events === 0) output.note('no decision was recorded in that time');
    if (!ok) output.exitWith(EXIT.notSo);
  } finally {
    changes?.close();
  }
};

export const replayCommand = (policy: Command): void => {
  pastOptions(
    policy
      .command('replay')
      .summary('what a draft would have decided on recorded traffic')
      .description(
        'Makes every recorded decision again with a draft: each with the input of its time, so a rule that has expired ' +
          'since was live then. Says what would be newly denied or newly allowed, for whom and to what. ' +
          'Connects to: the audit database, as role audit_read, audit_verify or its owner; a directory needs opa.',
      )
      .requiredOption('--bundle <file|dir>', 'the draft: a bundle, or a policy directory'),
  )
    .option('--grants <file>', "grants in place of the bundle's, as policy.data_file of agent.yaml")
    .addOption(
      new Option('--fail-on <what>', 'what makes it exit 1').choices(FAIL_ON).default('newly-denied'),
    )
    .option('--changes <file>', 'write every changed decision as a line of JSON')
    .action(replay);
};
