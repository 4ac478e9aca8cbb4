import { type Command, Option } from 'commander';
import { type RuleUse, RuleUseCount } from '../../policy/index.ts';
import { EXIT } from '../../runtime/index.ts';
import { counted, outputOf } from '../output.ts';
import { grantsOf, readBundleOrRunning } from './bundle-argument.ts';
import { forPastDecisions, type PastFlags, pastOptions, pastRange } from './past-decisions.ts';

const FAIL_ON = ['any', 'never'] as const;

interface UnusedFlags extends PastFlags {
  readonly bundle?: string;
  readonly grants?: string;
  readonly all?: true;
  readonly failOn: (typeof FAIL_ON)[number];
}

const forWhom = ({ connection, principal }: RuleUse): string =>
  principal === null ? connection : `${connection} ${principal}`;

/** How many rules nothing needed, among what. */
const useText = (idle: number, rules: number, decisions: number, from: string): string => {
  const all = counted(rules, 'rule or grant', 'rules and grants');
  const among = `${counted(decisions, 'decision')} since ${from}`;
  if (rules === 0) return `the policy has no rule and no grant; ${among}`;
  return idle === 0
    ? `each of ${all} was needed; ${among}`
    : `${String(idle)} of ${all} not needed; ${among}`;
};

const unused = async (flags: UnusedFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const range = pastRange(flags);
  const bytes = await readBundleOrRunning(flags.bundle);
  const grants = grantsOf(flags.grants);
  const count = new RuleUseCount();
  let decisions = 0;
  await forPastDecisions(flags, range, output, (page) => {
    for (const past of page) {
      count.add(past);
      decisions += past.count;
    }
  });
  const { rules, elsewhere } = await count.report(bytes, grants);
  const idle = rules.filter((rule) => rule.decisions === 0);
  const shown = flags.all === true ? rules : idle;
  output.document({ ...range, decisions, rules: shown, unused: idle.length, elsewhere });
  output.line(useText(idle.length, rules.length, decisions, range.from));
  if (shown.length > 0) {
    output.line();
    output.table(shown, [
      { title: 'rule', value: ({ id }) => id },
      { title: 'kind', value: ({ kind }) => kind },
      { title: 'for', value: forWhom },
      { title: 'owner', value: ({ owner }) => owner },
      { title: 'expires', value: ({ expires }) => expires },
      { title: 'decisions', value: (rule) => rule.decisions, align: 'right' },
      { title: 'last', value: (rule) => rule.last_at },
      { title: 'where', value: ({ source }) => source },
    ]);
  }
  if (elsewhere.length > 0) {
    output.line();
    output.line(
      `decisions name rules that this policy does not have: ${elsewhere.map(({ id }) => id).join(', ')}`,
    );
    if (flags.grants === undefined)
      output.note(
        "grants of an agent's grants file (policy.data_file) are among them, unless --grants FILE gives it",
      );
  }
  if (decisions === 0) output.note('no decision was recorded in that time: nothing can be said of any rule');
  if (flags.failOn === 'any' && idle.length > 0) output.exitWith(EXIT.notSo);
};

export const unusedCommand = (policy: Command): void => {
  pastOptions(
    policy
      .command('unused')
      .summary('rules and grants that no decision needed')
      .description(
        'Lists the rules and grants that took part in no recorded decision: allow rules that no stream or publish was ' +
          'allowed by, deny rules that denied nothing. ' +
          'Connects to: the audit database, as role audit_read, audit_verify or its owner; a directory needs opa.',
      )
      .option(
        '--bundle <file|dir>',
        'the policy: a bundle, or a policy directory; default: that of the `up` here',
      ),
    '90d',
  )
    .option('--grants <file>', "grants in place of the bundle's, as policy.data_file of agent.yaml")
    .option('--all', 'list the used ones too, with how often and when last')
    .addOption(new Option('--fail-on <what>', 'what makes it exit 1').choices(FAIL_ON).default('never'))
    .action(unused);
};
