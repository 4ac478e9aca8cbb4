import { type Command, Option } from 'commander';
import {
  buildBundle,
  checkPolicies,
  diagnosticText,
  findOpa,
  Observations,
  type PastDecision,
  propose,
  replayBundle,
  type ReplayCounts,
  writeProposals,
} from '../../policy/index.ts';
import { AppError, EXIT, systemClock } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { counted, outputOf } from '../output.ts';
import { forHoursOfUse, forPastDecisions, type PastFlags, pastOptions, pastRange } from './past-decisions.ts';

const DEFAULT_LIFE_MS = 180 * 24 * 60 * 60 * 1_000;
const DATE_CHARACTERS = 10;

interface ProposeFlags extends PastFlags {
  readonly output: string;
  readonly owner: string;
  readonly expires?: string;
  readonly connection?: readonly string[];
  readonly hours: 'seen' | 'any';
}

const usage = (message: string): AppError<CliErrorCode> => new AppError('ERR_CLI_USAGE', message);

const ownerOf = (text: string): string => {
  if (/^[A-Za-z0-9][\w.+@-]{0,127}$/.test(text)) return text;
  throw usage(`--owner ${JSON.stringify(text)} is not a name or address of letters, digits and . _ + @ -`);
};

const expiresOf = (text: string | undefined): string => {
  if (text === undefined)
    return new Date(systemClock.nowMs() + DEFAULT_LIFE_MS).toISOString().slice(0, DATE_CHARACTERS);
  if (text === 'never') return text;
  const ms = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms))
    throw usage(`--expires ${JSON.stringify(text)} is neither a day like 2027-03-31 nor never`);
  if (ms <= systemClock.nowMs()) throw usage(`--expires ${text} is in the past`);
  return text;
};

const principalOf = (input: string): string | undefined =>
  (JSON.parse(input) as { readonly key?: { readonly principal?: string } }).key?.principal;

const run = async (flags: ProposeFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const options = { owner: ownerOf(flags.owner), expires: expiresOf(flags.expires), hours: flags.hours };
  const range = pastRange(flags);
  const opa = await findOpa();
  const wanted = flags.connection === undefined ? undefined : new Set(flags.connection);
  const observations = new Observations();
  await forPastDecisions(flags, range, output, (page) => {
    for (const past of page) observations.add(past);
  });
  if (flags.hours === 'seen') {
    await forHoursOfUse(flags, range, output, (use) => {
      observations.addHours(use.connection, use.principal, use.hours);
    });
  }
  const seen = observations.all().filter(({ name }) => wanted === undefined || wanted.has(name));
  if (seen.length === 0) {
    output.document({ ok: false, ...range, connections: [] });
    output.line(`nothing was allowed since ${range.from}: there is nothing to propose from`);
    output.exitWith(EXIT.notSo);
    return;
  }
  const proposals = propose(seen, options);
  writeProposals(flags.output, proposals);

  // The proof of the proposal is in the traffic that it was made from.
  const findings = await checkPolicies(flags.output, opa);
  const { bytes } = await buildBundle(flags.output, undefined, { opa });
  const kept = new Set(seen.map(({ name }) => name));
  const removed = proposals.flatMap(({ connection, removed: out }) =>
    out.map((one) => ({ connection, ...one })),
  );
  // What was taken from somebody is not to be allowed again, and is no loss.
  const gone = new Set(removed.map(({ connection, principal }) => JSON.stringify([connection, principal])));
  const isGone = ({ connection, input }: PastDecision): boolean =>
    gone.size > 0 && input !== undefined && gone.has(JSON.stringify([connection, principalOf(input)]));
  const { counts } = await replayBundle(
    bytes,
    () => undefined,
    (take) =>
      forPastDecisions(flags, range, output, (page) =>
        take(page.filter((past) => kept.has(past.connection) && !isGone(past))),
      ),
  );
  const ok = findings.length === 0 && counts.newly_denied + counts.error === 0;
  const connections = proposals.map(({ connection, rules }) => ({ connection, rules }));
  output.document({ ok, ...range, directory: flags.output, connections, removed, findings, replay: counts });
  for (const { connection, rules } of connections) output.line(`${connection}: ${counted(rules, 'rule')}`);
  for (const { connection, principal, lastAllowedAt, deniedAt, reasons } of removed) {
    output.line(
      `${connection}: left out ${principal}: allowed last ${lastAllowedAt}, and policy denied the same ${deniedAt} (${reasons.join(', ')})`,
    );
  }
  for (const diagnostic of findings) output.line(diagnosticText(diagnostic));
  output.line(proof(counts));
  const rarely = proposals.flatMap(({ rarelySeen }) => rarelySeen);
  if (rarely.length > 0) {
    output.note(
      `hours that rest on less than a week of days, widen them or take --hours any: ${someOf(rarely)}`,
    );
  }
  if (ok) {
    output.note(
      `next: read ${flags.output}/sallyport/allow, narrow it, then \`sallyport policy test ${flags.output}\``,
    );
  } else output.exitWith(EXIT.notSo);
};

/** Names on one line. */
const MAX_NAMED = 8;
const someOf = (ids: readonly string[]): string =>
  ids.length <= MAX_NAMED
    ? ids.join(', ')
    : `${ids.slice(0, MAX_NAMED).join(', ')} and ${String(ids.length - MAX_NAMED)} more`;

const proof = ({ decisions, newly_denied: denied, newly_allowed: allowed, error }: ReplayCounts): string => {
  const lost = denied + error;
  const holds =
    lost === 0 ? 'all that was allowed still is' : `${String(lost)} that were allowed would be denied`;
  const opens =
    allowed === 0
      ? 'nothing that was denied would be allowed'
      : `${String(allowed)} that were denied would be allowed: a condition beyond target, agent, principal, source and hour denied them (a weekday, an author's deny)`;
  return `replayed over ${counted(decisions, 'decision')}: ${holds}; ${opens}`;
};

export const proposeCommand = (policy: Command): void => {
  pastOptions(
    policy
      .command('propose')
      .summary('a least-privilege allow-list from recorded traffic')
      .description(
        'Writes a policy directory that allows what was allowed in that time and nothing else: per connection its targets, ' +
          'addresses and agents, per principal its sources and the hours of its streams, each with vectors; then replays the traffic through it. ' +
          'Whom policy denied later what it had been allowed is left out, with a comment. A draft to be read: what an attacker did in that time is traffic too. ' +
          'Connects to: the audit database, as role audit_read, audit_verify or its owner; needs opa.',
      )
      .requiredOption('-o, --output <dir>', 'the policy directory to write; must be empty')
      .requiredOption('--owner <who>', 'owner of every proposed rule, as an address')
      .option('--expires <day>', 'end of every proposed rule, or never; default: in 180 days')
      .option('--connection <name...>', 'these connections only')
      .addOption(
        new Option(
          '--hours <which>',
          'hold principals to the local hours in which their streams were open, or to none',
        )
          .choices(['seen', 'any'])
          .default('seen'),
      ),
  ).action(run);
};
