import type { Command } from 'commander';
import { asRecorded, type AuditReader, type DecisionEvent, findDecisions } from '../../audit/index.ts';
import { decideAgain, type Difference, type RecordedFacts } from '../../policy/index.ts';
import { EXIT, isAppError, messageOf } from '../../runtime/index.ts';
import { type Output, outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, withReader } from './access.ts';
import { findPolicy, type PolicyFiles } from './past-decision.ts';

interface ExplainFlags extends DatabaseFlags, PolicyFiles {}

type Outcome =
  /** Made again, and the same. */
  | 'agrees'
  | 'differs'
  /** No bundle made it: there is nothing to evaluate. */
  | 'not_by_policy'
  /** What decided, or what it decided on, is not to be had. */
  | 'not_decided_again';

interface Explained {
  readonly outcome: Outcome;
  readonly detail: string;
  readonly differences: readonly Difference[];
}

const WHO = {
  managed: 'managed settings denied it; no bundle was asked',
  guard: "the guard in the agent's code denied it; no bundle was asked",
  engine: 'the engine gave no verdict, and that is a denial; which bundle was active does not explain it',
  limit: 'the bundle allowed it under a limit that was reached, and that is a denial',
  audit: 'the audit could not record the decision, and that is a denial',
} as const;

const withArgs = (reasons: DecisionEvent['data']['reasons']): string =>
  (reasons ?? [])
    .map(({ code, args }) => (args === undefined ? code : `${code} ${JSON.stringify(args)}`))
    .join(', ');

const isOther = (by: string): by is keyof typeof WHO => Object.hasOwn(WHO, by);

/** A decision that no bundle made can only be a denial, by one of those that may deny. */
const explainOther = ({ data }: DecisionEvent): Explained => {
  const by: string = data.decided_by;
  if (!isOther(by)) {
    const detail = `the event says that ${JSON.stringify(by)} decided it, and nothing of that name decides`;
    return { outcome: 'not_decided_again', detail, differences: [] };
  }
  if (data.allow) {
    const detail = `the event says that ${by} allowed it, and only policy allows`;
    return { outcome: 'differs', detail, differences: [{ name: 'allow', recorded: true, now: false }] };
  }
  return { outcome: 'not_by_policy', detail: `${WHO[by]}: ${withArgs(data.reasons)}`, differences: [] };
};

/** The facts of a recorded decision; undefined when the event does not hold them whole. */
const factsOf = ({ type, data }: DecisionEvent): RecordedFacts | undefined => {
  const { input, candidates, rule = null, rules, reasons, obligations, recheck_at: recheckAt = null } = data;
  if (input === undefined || candidates === undefined || rules === undefined || reasons === undefined) {
    return undefined;
  }
  try {
    JSON.parse(input);
  } catch {
    return undefined;
  }
  const facts = { allow: data.allow, rule, rules, reasons, obligations, recheck_at: recheckAt, candidates };
  return {
    ...(facts as Omit<RecordedFacts, 'action' | 'input'>),
    input,
    action: type === 'publish.decision' ? 'publish' : 'stream',
  };
};

const explainOne = async (
  reader: AuditReader,
  event: DecisionEvent,
  flags: ExplainFlags,
): Promise<Explained> => {
  const { data } = event;
  const without = (outcome: Outcome, detail: string): Explained => ({ outcome, detail, differences: [] });
  if (data.decided_by !== 'policy') return explainOther(event);
  const facts = factsOf(event);
  if (facts === undefined)
    return without('not_decided_again', 'the event does not hold its whole input: it was over a limit');
  const policy = await findPolicy(reader, event, flags);
  if ('missing' in policy) return without('not_decided_again', policy.missing);
  try {
    const differences = await decideAgain(policy, facts, asRecorded);
    return differences.length === 0
      ? without('agrees', 'the stored bundle decides the same')
      : { outcome: 'differs', detail: 'the stored bundle decides otherwise', differences };
  } catch (thrown) {
    if (!isAppError(thrown)) throw thrown;
    return without('not_decided_again', `the bundle cannot be run: ${messageOf(thrown)} (${thrown.code})`);
  }
};

const answerText = ({ data }: DecisionEvent): string => {
  const count = data.count === undefined || data.count <= 1 ? '' : ` (the last of ${String(data.count)})`;
  const recheck = data.recheck === true ? ' at a re-check' : '';
  return `${data.allow ? 'allowed' : 'denied'}${recheck} by ${data.decided_by}${count}`;
};

const TITLE: Readonly<Record<Outcome, string>> = {
  agrees: 'AGREES',
  differs: 'DIFFERS',
  not_by_policy: 'not by policy',
  not_decided_again: 'NOT DECIDED AGAIN',
};

const print = (output: Output, event: DecisionEvent, { outcome, detail, differences }: Explained): void => {
  const { at, type, agent, site, connection, principal, data, event_id } = event;
  const where = `agent ${agent ?? '-'}${site === null ? '' : ` of site ${site}`}`;
  output.line(`${at}  ${type} ${answerText(event)} on ${where} (event ${event_id})`);
  output.line(`  connection ${connection ?? '-'}, principal ${principal ?? '-'}`);
  if (data.bundle !== undefined) {
    const { sha256, sequence, revision, grants_sha256: grants } = data.bundle;
    output.line(`  bundle sequence ${String(sequence)}, '${revision ?? ''}', ${sha256}`);
    if (grants !== undefined) output.line(`  grants file ${grants}`);
  }
  output.line(`  rule ${data.rule ?? 'none'}, reasons ${withArgs(data.reasons)}`);
  for (const { address, verdict, reasons } of data.candidates ?? []) {
    output.line(
      `  ${address}: ${verdict}${reasons === undefined || reasons.length === 0 ? '' : `, ${reasons.join(', ')}`}`,
    );
  }
  output.line(`  ${TITLE[outcome]}: ${detail}`);
  for (const { name, recorded, now } of differences) {
    output.line(`    ${name} was ${JSON.stringify(recorded)}`);
    output.line(`    ${' '.repeat(name.length)} now ${JSON.stringify(now)}`);
  }
};

const explain = (id: string, flags: ExplainFlags, command: Command): Promise<void> =>
  withReader(flags, async (reader) => {
    const output = outputOf(command);
    const events = await findDecisions(reader, id);
    const explained: (DecisionEvent & Explained)[] = [];
    for (const event of events) {
      output.progress(`${String(explained.length)} of ${String(events.length)} decisions`);
      explained.push({ ...event, ...(await explainOne(reader, event, flags)) });
    }
    const ok = explained.every(({ outcome }) => outcome === 'agrees' || outcome === 'not_by_policy');
    output.document({ id, ok, decisions: explained });
    for (const one of explained) print(output, one, one);
    output.note(
      'the events are taken as the database has them; `sallyport audit verify` proves that they are as sealed',
    );
    if (!ok) output.exitWith(EXIT.notSo);
  });

export const explainCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('explain')
      .summary('decide a stream again, by the bundle that decided it')
      .description(
        'Evaluates the recorded input of each decision on a stream by the stored bundle, and compares addresses, verdict, rule, ' +
          'reasons and obligations. Exits 0 when they agree, 1 when one differs or the bundle is missing or not the one ' +
          'that decided. Connects to: the audit database, as role audit_verify or its owner (audit_read needs --bundle).',
      )
      .argument('<stream>', 'stream id, or the event id of a decision to open a stream or to publish'),
  )
    .option(
      '--bundle <file>',
      'the bundle, instead of the one in the database; its digest must be the recorded one',
    )
    .option('--grants <file>', 'likewise the grants file, where one decided')
    .action(explain);
};
