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
import { EXIT } from '../../runtime/index.ts';
import { type Column, type Output, outputOf } from '../output.ts';
import { readBundleArgument } from './bundle-argument.ts';

const FAIL_ON = ['newly-denied', 'newly-allowed', 'any', 'never'] as const;

interface DiffFlags {
  readonly failOn: (typeof FAIL_ON)[number];
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
    `${String(inputs)} vectors, ${String(answers.length)} answered differently; ${String(rules.length)} rules and ${String(grants.length)} grants differ`,
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

const diff = async (a: string, b: string, flags: DiffFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const compared = await diffBundles(await readBundleArgument(a), await readBundleArgument(b));
  output.document(compared);
  print(output, compared);
  if (fails(compared, flags.failOn)) output.exitWith(EXIT.notSo);
};

export const diffCommand = (policy: Command): void => {
  policy
    .command('diff')
    .description(
      'what bundle b would change against bundle a: answers to the vectors of both, rules, grants; connects to nothing; directories need opa',
    )
    .argument('<a>', 'bundle file or policy directory, as it is')
    .argument('<b>', 'bundle file or policy directory, as it would be')
    .addOption(
      new Option('--fail-on <what>', 'what makes it exit 1').choices(FAIL_ON).default('newly-denied'),
    )
    .action(diff);
};
