import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { type ExplainedAddress, explainInput, type Explanation, readAskedInput } from '../../policy/index.ts';
import { AppError, EXIT, foreignCodeOf, messageOf } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { type Output, outputOf } from '../output.ts';
import { readBundleOrRunning } from './bundle-argument.ts';

interface ExplainFlags {
  readonly input: string;
  readonly bundle?: string;
}

const STDIN = 0;

const readInputText = (file: string): string => {
  try {
    return readFileSync(file === '-' ? STDIN : file, 'utf8');
  } catch (cause) {
    const why = foreignCodeOf(cause) ?? messageOf(cause);
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `--input ${file} cannot be read: ${why}`, { cause });
  }
};

const verdictText = ({ guard, answer }: ExplainedAddress): string => {
  if (guard !== undefined) return `deny, by the guard: ${guard}`;
  if (!answer.ok) return `deny, no verdict: ${answer.detail}`;
  const { allow, rule, reasons } = answer.verdict;
  const codes = [...new Set(reasons.map(({ code }) => code))].join(', ');
  return allow ? `allow, rule ${String(rule)}` : `deny, ${codes}`;
};

const idsText = (rules: Readonly<Record<string, readonly string[]>>): string => {
  const texts = Object.entries(rules)
    .filter(([, ids]) => ids.length > 0)
    .map(([action, ids]) => `${action} ${ids.join(', ')}`);
  return texts.length === 0 ? 'none' : texts.join('; ');
};

const criteriaText = (criteria: Readonly<Record<string, boolean>>): string =>
  Object.entries(criteria)
    .map(([name, holds]) => `${name} ${holds ? 'holds' : 'FAILS'}`)
    .join(', ');

const printAddress = (output: Output, explained: ExplainedAddress): void => {
  const { address, answer, matched, live, grants, rules } = explained;
  output.line();
  output.line(`${address}: ${verdictText(explained)}`);
  for (const { code, args } of answer.ok ? answer.verdict.reasons : []) {
    const values = Object.entries(args).map(([name, value]) => ` ${name} ${String(value)}`);
    output.line(`  reason   ${code}${values.join('')}`);
  }
  output.line(`  matched  ${idsText(matched)}`);
  output.line(`  live     ${idsText(live)}`);
  for (const [id, criteria] of Object.entries(grants)) {
    output.line(`  grant    ${id}: ${criteriaText(criteria)}`);
  }
  for (const { id, action, file, line, held, failed } of rules) {
    const which = `  ${action.padEnd(8)} ${id}`;
    if (held || failed === undefined) output.line(`${which} holds (${file}:${String(line)})`);
    else {
      const fails = action === 'deny' || action === 'limits' ? 'does not apply' : 'fails';
      output.line(`${which} ${fails}: ${failed.text}`);
      output.line(`           at ${file}:${String(failed.line)}:${String(failed.column)}`);
      for (const [path, value] of Object.entries(failed.values)) {
        output.line(`           ${path} is ${value === null ? 'absent' : JSON.stringify(value)}`);
      }
    }
  }
};

const print = (output: Output, explanation: Explanation): void => {
  const { allow, action, connection, target, bundle, addresses, noLines } = explanation;
  const what = action === 'publish' ? `publishing ${target} as` : `a stream to ${target} through`;
  output.line(
    `${allow ? 'allow' : 'deny'}: ${what} ${connection}, by bundle sequence ${String(bundle.sequence)}, revision '${bundle.revision}'`,
  );
  for (const address of addresses) printAddress(output, address);
  if (noLines !== undefined) output.note(`no failing lines: ${noLines}`);
};

const explain = async (flags: ExplainFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const asked = readAskedInput(readInputText(flags.input));
  const explanation = await explainInput(await readBundleOrRunning(flags.bundle), asked);
  output.document(explanation);
  print(output, explanation);
  if (!explanation.allow) output.exitWith(EXIT.notSo);
};

export const explainCommand = (policy: Command): void => {
  policy
    .command('explain')
    .description(
      'say why an input is allowed (exit 0) or denied (exit 1), rule by rule; connects to nothing; failing lines need opa',
    )
    .requiredOption('--input <file>', 'an input, a vector or a recorded decision, json or yaml; - is stdin')
    .option(
      '--bundle <path>',
      'bundle file or policy directory; default: the bundle of the `up` that runs here',
    )
    .action(explain);
};
