import { type Command, Option } from 'commander';
import {
  type AnswerChange,
  type BundleDiff,
  type BundleGrant,
  type CatalogEntry,
  diffBundles,
  type EntryChanges,
  type ShownAnswer,
} from '../../policy/index.ts';
import { AppError, EXIT } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { type Column, counted, type Output, outputOf } from '../output.ts';
import { readBundleArgument } from './bundle-argument.ts';
import { liveDiff } from './live-diff.ts';

const FAIL_ON = ['newly-denied', 'newly-allowed', 'any', 'never'] as const;

interface DiffFlags {
  readonly failOn: (typeof FAIL_ON)[number];
  readonly live?: true;
  readonly config?: string;
}

/** Rows of one table on a terminal; --json has all. */
const MAX_ROWS = 200;

const limited = <Row>(output: Output, rows: readonly Row[], columns: readonly Column<Row>[]): void => {
  output.table(rows.slice(0, MAX_ROWS), columns);
  if (rows.length > MAX_ROWS) output.line(`and ${String(rows.length - MAX_ROWS)} more; --json has all`);
};

const answerText = (answer: ShownAnswer): string => {
  if ('error' in answer) return `no verdict (${answer.error})`;
  return answer.allow ? `allow ${answer.rule ?? ''}` : `deny ${answer.reasons.join(', ')}`;
};

const KIND_TEXT: Readonly<Record<AnswerChange['kind'], string>> = {
  newly_denied: 'newly denied',
  newly_allowed: 'newly allowed',
  rule: 'other rule',
  reasons: 'other reasons',
  obligations: 'other limits',
};

interface EntryRow {
  readonly change: string;
  readonly id: string;
  readonly whom: string;
  readonly owner: string;
  readonly what: string;
}

const rowsOf = <Entry>(
  { added, removed, changed }: EntryChanges<Entry>,
  rowOf: (entry: Entry) => Omit<EntryRow, 'change' | 'what'>,
): EntryRow[] => {
  const text = (value: unknown): string =>
    value === null ? 'nothing' : typeof value === 'string' ? value : JSON.stringify(value);
  return [
    ...added.map((entry) => ({ change: 'added', ...rowOf(entry), what: '' })),
    ...removed.map((entry) => ({ change: 'removed', ...rowOf(entry), what: '' })),
    ...changed.map(({ entry, fields }) => ({
      change: 'changed',
      ...rowOf(entry),
      what: fields
        .map(({ name, a, b }) => (name === 'conditions' ? name : `${name}: ${text(a)} -> ${text(b)}`))
        .join('; '),
    })),
  ];
};

const ruleRow = ({ id, action, connection, owner }: CatalogEntry): Omit<EntryRow, 'change' | 'what'> => ({
  id,
  whom: `${action} ${connection}`,
  owner,
});

const grantRow = ({ connection, principal, grant }: BundleGrant): Omit<EntryRow, 'change' | 'what'> => ({
  id: grant.id,
  whom: `${connection} ${principal}`,
  owner: grant.owner,
});

const entryColumns = (title: string, whom: string): readonly Column<EntryRow>[] => [
  { title, value: ({ change }) => change },
  { title: 'id', value: ({ id }) => id },
  { title: whom, value: ({ whom: text }) => text },
  { title: 'owner', value: ({ owner }) => owner },
  { title: 'what', value: ({ what }) => what },
];

const print = (output: Output, diff: BundleDiff): void => {
  const { a, b, inputs, answers, files } = diff;
  output.line(`a: sequence ${String(a.sequence)}, revision '${a.revision}', ${a.sha256}`);
  output.line(`b: sequence ${String(b.sequence)}, revision '${b.revision}', ${b.sha256}`);
  const rules = rowsOf(diff.rules, ruleRow);
  const grants = rowsOf(diff.grants, grantRow);
  output.line(
    `${counted(inputs, 'vector')}, ${String(answers.length)} answered differently; ${counted(rules.length, 'rule')} and ${counted(grants.length, 'grant')} differ`,
  );
  if (answers.length > 0) {
    output.line();
    limited(output, answers, [
      { title: 'answer', value: ({ kind }) => KIND_TEXT[kind] },
      { title: 'vector', value: ({ name }) => name },
      { title: 'of', value: ({ of }) => of },
      { title: 'a', value: (change) => answerText(change.a) },
      { title: 'b', value: (change) => answerText(change.b) },
    ]);
  }
  if (rules.length > 0) {
    output.line();
    limited(output, rules, entryColumns('rule', 'for'));
  }
  if (grants.length > 0) {
    output.line();
    limited(output, grants, entryColumns('grant', 'for'));
  }
  if (files.length > 0) {
    output.line();
    output.line(`sources that differ: ${files.join(', ')}`);
  }
  if (rules.length + grants.length + files.length > 0) {
    output.note(
      "only what a vector asks is compared: who loses access that no vector names is seen by 'policy replay' (recorded " +
        "decisions) and 'policy diff --live' (open streams)",
    );
  }
};

const fails = ({ answers, rules, grants, files }: BundleDiff, failOn: DiffFlags['failOn']): boolean => {
  const some = (kind: AnswerChange['kind']): boolean => answers.some((change) => change.kind === kind);
  switch (failOn) {
    case 'never':
      return false;
    case 'newly-denied':
      return some('newly_denied');
    case 'newly-allowed':
      return some('newly_allowed');
    case 'any': {
      const entries = [rules, grants].flatMap(({ added, removed, changed }) => [added, removed, changed]);
      return answers.length + files.length > 0 || entries.some((list) => list.length > 0);
    }
  }
};

const usage = (text: string): AppError<CliErrorCode> => new AppError('ERR_CLI_USAGE', text);

const diff = async (a: string, b: string | undefined, flags: DiffFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  if (flags.live === true) {
    if (b !== undefined)
      throw usage('with --live one bundle is given: it is held against what the agent runs');
    if (flags.config === undefined) throw usage('--live needs -c with the agent.yaml of the running agent');
    await liveDiff(a, flags.config, output);
    return;
  }
  if (b === undefined) throw usage('two bundles are needed, or one with --live -c agent.yaml');
  const compared = await diffBundles(await readBundleArgument(a), await readBundleArgument(b));
  output.document(compared);
  print(output, compared);
  if (fails(compared, flags.failOn)) output.exitWith(EXIT.notSo);
};

export const diffCommand = (policy: Command): void => {
  policy
    .command('diff')
    .summary('what a bundle would change, against another or at a running agent')
    .description(
      'Compares bundle b to bundle a: answers to the vectors of both, rules, grants. Connects to nothing; directories ' +
        'need opa. With --live, asks a running agent which live streams and publications the activation of one bundle ' +
        'would end right now, and exits 1 when it would end any; nothing is activated. Connects to: the status address ' +
        "of agent.yaml; writes to the agent's state directory.",
    )
    .argument('<a>', 'bundle file or policy directory, as it is; with --live, as it would be')
    .argument('[b]', 'bundle file or policy directory, as it would be')
    .option('--live', 'what activating one bundle would end at the agent of --config')
    .option('-c, --config <file>', 'agent.yaml, with --live')
    .addOption(
      new Option('--fail-on <what>', 'what makes it exit 1').choices(FAIL_ON).default('newly-denied'),
    )
    .action(diff);
};
