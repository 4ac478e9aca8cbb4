import type { Command } from 'commander';
import {
  buildBundle,
  checkPolicies,
  diagnosticText,
  findOpa,
  Observations,
  propose,
  replayBundle,
  type ReplayCounts,
  writeProposals,
} from '../../policy/index.ts';
import { AppError, EXIT, systemClock } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { outputOf } from '../output.ts';
import { forPastDecisions, type PastFlags, pastOptions, pastRange } from './past-decisions.ts';

const DEFAULT_LIFE_MS = 180 * 24 * 60 * 60 * 1_000;
const DATE_CHARACTERS = 10;

interface ProposeFlags extends PastFlags {
  readonly output: string;
  readonly owner: string;
  readonly expires?: string;
  readonly connection?: readonly string[];
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

const run = async (flags: ProposeFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const options = { owner: ownerOf(flags.owner), expires: expiresOf(flags.expires) };
  const range = pastRange(flags);
  const opa = await findOpa();
  const wanted = flags.connection === undefined ? undefined : new Set(flags.connection);
  const observations = new Observations();
  await forPastDecisions(flags, range, output, (page) => {
    for (const past of page) observations.add(past);
  });
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
  const { counts } = await replayBundle(
    bytes,
    () => undefined,
    (take) =>
      forPastDecisions(flags, range, output, (page) =>
        take(page.filter((past) => kept.has(past.connection))),
      ),
  );
  const ok = findings.length === 0 && counts.newly_denied + counts.error === 0;
  const connections = proposals.map(({ connection, rules }) => ({ connection, rules }));
  output.document({ ok, ...range, directory: flags.output, connections, findings, replay: counts });
  for (const { connection, rules } of connections) output.line(`${connection}: ${String(rules)} rules`);
  for (const diagnostic of findings) output.line(diagnosticText(diagnostic));
  output.line(proof(counts));
  if (ok) {
    output.note(
      `next: read ${flags.output}/sallyport/allow, narrow it, then \`sallyport policy test ${flags.output}\``,
    );
  } else output.exitWith(EXIT.notSo);
};

const proof = ({ decisions, newly_denied: denied, newly_allowed: allowed, error }: ReplayCounts): string => {
  const lost = denied + error;
  const holds =
    lost === 0 ? 'all that was allowed still is' : `${String(lost)} that were allowed would be denied`;
  const opens =
    allowed === 0
      ? 'nothing that was denied would be allowed'
      : `${String(allowed)} that were denied would be allowed: a condition beyond target, agent, principal and source denied them (hours, an author's deny)`;
  return `replayed over ${String(decisions)} decisions: ${holds}; ${opens}`;
};

export const proposeCommand = (policy: Command): void => {
  pastOptions(
    policy
      .command('propose')
      .summary('a least-privilege allow-list from recorded traffic')
      .description(
        'Writes a policy directory that allows what was allowed in that time and nothing else: per connection its targets, ' +
          'addresses and agents, per principal its sources, each with vectors; then replays the traffic through it. ' +
          'A draft to be read: what an attacker did in that time is traffic too. ' +
          'Connects to: the audit database, as role audit_read, audit_verify or its owner; needs opa.',
      )
      .requiredOption('-o, --output <dir>', 'the policy directory to write; must be empty')
      .requiredOption('--owner <who>', 'owner of every proposed rule, as an address')
      .option('--expires <day>', 'end of every proposed rule, or never; default: in 180 days')
      .option('--connection <name...>', 'these connections only'),
  ).action(run);
};
