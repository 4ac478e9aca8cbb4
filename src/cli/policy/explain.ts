import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { findDecisions } from '../../audit/index.ts';
import {
  type DecisionReason,
  type ExplainedAddress,
  explainInput,
  type Explanation,
  readAskedInput,
} from '../../policy/index.ts';
import { AppError, EXIT, foreignCodeOf, messageOf } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { type Output, outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, withReader } from '../audit/access.ts';
import { findPolicy, type PolicyFiles } from '../audit/past-decision.ts';
import { grantsOf, readBundleArgument, readBundleOrRunning } from './bundle-argument.ts';

interface ExplainFlags extends DatabaseFlags, PolicyFiles {
  readonly input?: string;
  readonly stream?: string;
}

const STDIN = 0;
/** Reasons of rules that match and are not live. */
const NOT_LIVE: ReadonlySet<string> = new Set(['rule_expired', 'rule_invalid', 'limit_invalid']);

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

/** What a reason says of a rule that holds and is in no order: `limits.max_second: expected one of …`. */
const faultText = ({ member, expected }: DecisionReason['args']): string | undefined =>
  typeof member === 'string' && typeof expected === 'string' ? `${member}: expected ${expected}` : undefined;

const argsText = (args: DecisionReason['args']): string => {
  const fault = faultText(args);
  const values = Object.entries(args)
    .filter(([name]) => fault === undefined || (name !== 'member' && name !== 'expected'))
    .map(([name, value]) => ` ${name} ${String(value)}`);
  return `${values.join('')}${fault === undefined ? '' : `: ${fault}`}`;
};

/** Why a rule whose conditions hold does not count all the same; undefined when it counts. */
const heldInVain = ({ answer }: ExplainedAddress, id: string): string | undefined => {
  const reason = answer.ok
    ? answer.verdict.reasons.find(({ code, args }) => NOT_LIVE.has(code) && args['rule'] === id)
    : undefined;
  if (reason === undefined) return undefined;
  if (reason.code === 'rule_expired') return 'it has expired';
  return `it is invalid: ${faultText(reason.args) ?? '`policy check` names what is wrong'}`;
};

const printAddress = (output: Output, explained: ExplainedAddress): void => {
  const { address, answer, matched, live, grants, rules } = explained;
  output.line();
  output.line(`${address}: ${verdictText(explained)}`);
  for (const { code, args } of answer.ok ? answer.verdict.reasons : []) {
    output.line(`  reason   ${code}${argsText(args)}`);
  }
  output.line(`  matched  ${idsText(matched)}`);
  output.line(`  live     ${idsText(live)}`);
  for (const [id, criteria] of Object.entries(grants)) {
    output.line(`  grant    ${id}: ${criteriaText(criteria)}`);
  }
  for (const { id, action, file, line, held, failed } of rules) {
    const which = `  ${action.padEnd(8)} ${id}`;
    const inVain = heldInVain(explained, id);
    if (held && inVain !== undefined) {
      output.line(`${which} matches and does not count, ${inVain}`);
      output.line(`           at ${file}:${String(line)}`);
    } else if (held || failed === undefined) output.line(`${which} holds (${file}:${String(line)})`);
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

const usage = (what: string): AppError<CliErrorCode> => new AppError('ERR_CLI_USAGE', what);

/** By the bundle that decided it, or by another that the flags name. */
const explainStream = (id: string, flags: ExplainFlags, output: Output): Promise<Explanation> =>
  withReader(flags, async (reader) => {
    const events = await findDecisions(reader, id);
    const event = events.at(-1);
    if (event?.data.input === undefined) throw usage(`the event ${event?.event_id ?? id} holds no input`);
    const { data, at, event_id: eventId } = event;
    const which =
      events.length === 1 ? '' : `, the last of ${String(events.length)}; name another by its event id`;
    output.note(`event ${eventId} of ${at}${which}`);
    if (data.decided_by !== 'policy') {
      const codes = (data.reasons ?? []).map(({ code }) => code).join(', ');
      output.note(`it was ${data.decided_by} that denied it (${codes}); below is what the bundle answers`);
    }
    const asked = readAskedInput(JSON.stringify(data.input));
    if (flags.bundle !== undefined) {
      const bytes = await readBundleArgument(flags.bundle);
      return explainInput(bytes, asked, { grantsText: grantsOf(flags.grants) });
    }
    const policy = await findPolicy(reader, event, {
      ...(flags.grants === undefined ? {} : { grants: flags.grants }),
    });
    if ('missing' in policy) throw new AppError<CliErrorCode>('ERR_CLI_POLICY_GONE', policy.missing);
    return explainInput(policy.bundle, asked, { grantsText: policy.grantsText });
  });

const explain = async (flags: ExplainFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const { input, stream } = flags;
  if ((input === undefined) === (stream === undefined))
    throw usage('give either --input FILE or --stream ID');
  const explanation =
    stream === undefined
      ? await explainInput(
          await readBundleOrRunning(flags.bundle),
          readAskedInput(readInputText(input ?? '')),
          {
            grantsText: grantsOf(flags.grants),
          },
        )
      : await explainStream(stream, flags, output);
  output.document(explanation);
  print(output, explanation);
  if (!explanation.allow) output.exitWith(EXIT.notSo);
};

export const explainCommand = (policy: Command): void => {
  databaseOptions(
    policy
      .command('explain')
      .summary('say why an input or a recorded stream is allowed (exit 0) or denied (exit 1), rule by rule')
      .description(
        'Says why an input is allowed (exit 0) or denied (exit 1), rule by rule; failing lines need opa. Connects to ' +
          'nothing; with --stream to the audit database, as role audit_verify or its owner (audit_read needs --bundle).',
      )
      .option('--input <file>', 'an input, a vector or a recorded decision, json or yaml; - is stdin')
      .option(
        '--stream <id>',
        'a recorded stream, or the event id of a decision, by the bundle that decided it',
      )
      .option(
        '--bundle <path>',
        'bundle file or policy directory; default: that of the stream, or of the `up` that runs here',
      )
      .option('--grants <file>', "grants in place of the bundle's, as policy.data_file of agent.yaml"),
  ).action(explain);
};
