import type { Command } from 'commander';
import {
  diagnosticText,
  findOpa,
  type PolicyTestReport,
  type ShownAnswer,
  testPolicies,
  type VectorReport,
} from '../../policy/index.ts';
import { EXIT } from '../../runtime/index.ts';
import { type Output, outputOf } from '../output.ts';

const ruleText = (rule: string | null): string => (rule === null ? 'no rule' : `rule ${rule}`);

const listText = (reasons: readonly string[]): string =>
  reasons.length === 0 ? 'no reason' : reasons.join(', ');

/** An answer in one line: `allow, rule orders-app, allowed_by`. */
const answerText = (answer: ShownAnswer): string => {
  if ('error' in answer) return `no verdict: ${answer.error}`;
  const { allow, rule, reasons } = answer;
  return `${allow ? 'allow' : 'deny'}, ${ruleText(rule)}, ${listText(reasons)}`;
};

const expectedText = ({ allow, rule, reasons }: VectorReport['expected']): string =>
  [
    allow ? 'allow' : 'deny',
    ...(rule === undefined ? [] : [ruleText(rule)]),
    ...(reasons === undefined ? [] : [listText(reasons)]),
  ].join(', ');

const vectorLines = ({
  name,
  file,
  line,
  column,
  expected,
  actual,
  opa,
  problems,
}: VectorReport): string[] => [
  diagnosticText({ file, line, column, rule: 'vector', message: `'${name}' fails: ${problems.join('; ')}` }),
  `  expected  ${expectedText(expected)}`,
  `  wasm      ${answerText(actual)}`,
  `  opa       ${answerText(opa)}`,
];

const rangeText = ({ from, to }: { from: number; to: number }): string =>
  from === to ? String(from) : `${String(from)}-${String(to)}`;

const print = (output: Output, { tests, vectors }: PolicyTestReport): void => {
  for (const failure of tests.failures) output.line(diagnosticText(failure));
  const failing = vectors.filter(({ ok }) => !ok);
  for (const vector of failing) for (const line of vectorLines(vector)) output.line(line);
  if (tests.failures.length + failing.length > 0) output.line();
  output.table(
    [
      { what: 'rego tests', passed: tests.passed, failed: tests.failed, skipped: tests.skipped },
      {
        what: 'vectors, wasm and opa',
        passed: vectors.length - failing.length,
        failed: failing.length,
        skipped: 0,
      },
    ],
    [
      { title: 'what', value: ({ what }) => what },
      { title: 'passed', value: ({ passed }) => passed, align: 'right' },
      { title: 'failed', value: ({ failed }) => failed, align: 'right' },
      { title: 'skipped', value: ({ skipped }) => skipped, align: 'right' },
    ],
  );
  if (tests.coverage.length === 0) return;
  output.line();
  output.table(tests.coverage, [
    { title: 'covered by rego tests', value: ({ file }) => file },
    { title: 'percent', value: ({ percent }) => percent, align: 'right' },
    {
      title: 'lines that no test runs',
      value: ({ notCovered }) => (notCovered.length === 0 ? '-' : notCovered.map(rangeText).join(', ')),
    },
  ]);
};

const run = async (directory: string, _flags: object, command: Command): Promise<void> => {
  const output = outputOf(command);
  output.progress(`${directory}: rego tests and vectors`);
  const report = await testPolicies(directory, await findOpa());
  output.document(report);
  print(output, report);
  const refused = report.findings.filter(({ severity }) => severity !== 'warning');
  for (const finding of report.findings) output.note(diagnosticText(finding));
  if (refused.length > 0) {
    output.note(
      `${directory}: 'policy check' and 'policy build' refuse this directory, whatever its tests say`,
    );
  }
  if (report.ok) return;
  if (report.tests.passed + report.tests.failed + report.vectors.length === 0) {
    output.note(`${directory}: there is neither a rego test nor a vector`);
  }
  output.exitWith(EXIT.notSo);
};

export const testCommand = (policy: Command): void => {
  policy
    .command('test')
    .description(
      'run the rego tests with coverage, and every vector through wasm and opa; connects to nothing, needs opa',
    )
    .argument('<dir>', 'policy directory')
    .action(run);
};
