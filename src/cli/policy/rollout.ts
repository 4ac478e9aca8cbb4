import type { Command } from 'commander';
import { EXIT, sleep, systemClock } from '../../runtime/index.ts';
import { type DatabaseFlags, databaseOptions } from '../audit/access.ts';
import { heldMeans } from '../held-text.ts';
import { managedLines } from '../managed-text.ts';
import { counted, type Output, outputOf } from '../output.ts';
import { type AgentFile, agentOf, type AgentPolicy, askStatus } from './agent-access.ts';
import { shadowText } from './shadow.ts';
import { programName } from '../up/screen.ts';
import { statusOfAll } from './status-of-all.ts';

/** A message of several problems, one a line, in a cell of a table. */
const oneLine = (message: string): string => message.split('\n').join('; ');

const LOOK_PERIOD_MS = 200;
/** An agent looks for confirmations twice a second; then it starts an engine and runs the vectors. */
const ACTIVATION_LIMIT_MS = 60_000;

interface StatusFlags extends DatabaseFlags {
  readonly config?: string;
  readonly agent?: readonly string[];
}

const instant = (ms: number): string => new Date(ms).toISOString();

const show = (
  output: Output,
  { name, streams, policy, managed }: AgentPolicy,
  bundleFile: string | undefined,
): void => {
  const { active, held, rejected, grantsFile, grantsRejected, withdrawn, shadow, source } = policy;
  output.document({ agent: name, streams: streams.open, ...policy, managed });
  const rows: [string, string][] = [];
  if (active === undefined) rows.push(['active', 'none: every stream is denied']);
  else {
    const by = active.signedBy === undefined ? 'unsigned' : `signed by ${active.signedBy}`;
    const since = instant(active.activatedMs);
    rows.push(['active', `sequence ${String(active.sequence)}, '${active.revision}', ${by}, since ${since}`]);
    rows.push(['', active.sha256]);
  }
  if (grantsFile === undefined) rows.push(['grants', "the bundle's own"]);
  else {
    rows.push(['grants', `${grantsFile}, in place of the bundle's`]);
    if (active?.grantsSha256 !== undefined) rows.push(['', active.grantsSha256]);
  }
  if (held !== undefined) {
    const cost = `would close ${String(held.wouldClose)} of ${String(held.live)} live streams`;
    rows.push([
      'held',
      `sequence ${String(held.sequence)}, '${held.revision}': ${cost}, since ${instant(held.atMs)}`,
    ]);
    rows.push(['', held.id]);
    rows.push(['', heldMeans(held, active)]);
  }
  if (withdrawn !== undefined)
    rows.push(['withdrawn', `${instant(withdrawn.atMs)}: ${oneLine(withdrawn.message)}`]);
  if (rejected !== undefined) {
    rows.push(['refused', `${instant(rejected.atMs)}: ${oneLine(rejected.message)} (${rejected.code})`]);
  }
  if (grantsRejected !== undefined) {
    rows.push([
      'grants refused',
      `${instant(grantsRejected.atMs)}: ${grantsRejected.message} (${grantsRejected.code})`,
    ]);
  }
  if (shadow.state !== 'off') rows.push(['shadow', shadowText(shadow)]);
  // What bounds the bundle from outside, where anything does.
  if (managed.state !== 'absent' || managed.refused !== undefined) {
    for (const [index, line] of managedLines(managed).entries())
      rows.push([index === 0 ? 'managed' : '', line]);
  }
  for (const [key, value] of Object.entries(source)) {
    if (value !== null) rows.push([key === 'kind' ? 'source' : `  ${key}`, String(value)]);
    if (value === 'file' && bundleFile !== undefined)
      rows.push(['', `${bundleFile}, as agent.yaml names it`]);
  }
  output.table(rows, [
    { title: 'what', value: ([what]) => what },
    { title: name, value: ([, value]) => value },
  ]);
};

const status = async (flags: StatusFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  if (flags.config === undefined) {
    await statusOfAll(flags, output);
    return;
  }
  const place = await agentOf(flags.config);
  const answer = await askStatus(place);
  show(output, answer, place.bundleFile);
  const { active, held, rejected, grantsRejected, withdrawn, source } = answer.policy;
  if (held !== undefined) {
    output.line(`confirm it: ${programName()} policy activate -c ${flags.config} --reason TEXT`);
  }
  const isRefused =
    grantsRejected !== undefined || (rejected !== undefined && rejected.atMs > (active?.activatedMs ?? 0));
  const isOff = active === undefined || withdrawn !== undefined || source['stale'] === true;
  if (isOff || held !== undefined || isRefused) output.exitWith(EXIT.notSo);
};

type Held = NonNullable<AgentPolicy['policy']['held']>;
type Confirmed = AgentPolicy['policy']['confirmed'];

/** What the activation ends, counted at the swap; and what whoever confirmed it had been told. */
const endsLines = (held: Held, confirmed: Confirmed): string[] => {
  const then = `${String(held.wouldClose)} of ${String(held.live)} when it was held, ${instant(held.atMs)}`;
  const now = confirmed?.counted;
  if (confirmed === undefined || now === undefined)
    return [`it was not counted again which live streams it ends; it was ${then}`];
  return [
    `it ends ${String(now.wouldClose)} of ${counted(now.live, 'live stream')}, counted at ${instant(confirmed.atMs)}`,
    `it was ${then}`,
  ];
};

const activate = async (
  id: string | undefined,
  flags: AgentFile & { readonly reason: string },
  command: Command,
): Promise<void> => {
  const output = outputOf(command);
  const place = await agentOf(flags.config);
  const { held } = (await askStatus(place)).policy;
  if (held === undefined || (id !== undefined && id !== held.id)) {
    const why = held === undefined ? 'nothing is held' : `what is held is ${held.id}`;
    output.document({ activated: false, why });
    output.line(`not activated: ${why}`);
    output.exitWith(EXIT.notSo);
    return;
  }
  const { askToActivate } = await import('../../agent/index.ts');
  askToActivate(place.stateDir, held.id, flags.reason, systemClock);
  const untilMs = systemClock.monotonicMs() + ACTIVATION_LIMIT_MS;
  for (;;) {
    output.progress('waiting for the agent …');
    await sleep(systemClock, LOOK_PERIOD_MS);
    const { policy } = await askStatus(place);
    if (policy.held === undefined && policy.active?.sha256 === held.sha256) {
      const { confirmed } = policy;
      const again = confirmed?.id === held.id ? confirmed : undefined;
      output.document({
        activated: true,
        ...held,
        now: again?.counted === undefined ? null : { atMs: again.atMs, ...again.counted },
      });
      output.line(`active: sequence ${String(held.sequence)}, '${held.revision}', ${held.sha256}`);
      for (const line of endsLines(held, again)) output.line(line);
      return;
    }
    const isOther = policy.held !== undefined && policy.held.id !== held.id;
    if (isOther || systemClock.monotonicMs() > untilMs) {
      const why = isOther ? 'another activation is held now' : 'the agent did not activate it in time';
      output.document({ activated: false, why });
      output.line(`not activated: ${why}`);
      output.exitWith(EXIT.notSo);
      return;
    }
  }
};

/** `sallyport policy status|activate` */
export const rolloutCommands = (policy: Command): void => {
  databaseOptions(
    policy
      .command('status')
      .summary('which bundle an agent, or every agent, runs, holds and refused')
      .description(
        'With -c: the active bundle of one agent, a held one, the grants file, the last refusals and where bundles come from; connects to ' +
          'the status address of agent.yaml. It exits 1 when no bundle decides, or one is held, or was refused since the ' +
          'active one was activated, or the grants file is refused. Without: what every agent runs, since when, signed by whom, what it holds ' +
          'and refused, by the audit trail; exits 1 when running agents differ, one has no bundle, or one holds or ' +
          'refused something. Connects to: the audit database, as role audit_read, audit_verify or its owner.',
      )
      .option('-c, --config <file>', 'agent.yaml')
      .option('--agent <name...>', 'only these agents'),
  ).action(status);
  policy
    .command('activate')
    .summary('confirm a held activation')
    .description(
      'Confirms an activation that an agent holds because it would close many live streams; the trail has it as ' +
        "admin.action. Connects to: the status address of agent.yaml; writes to the agent's state directory.",
    )
    .argument('[id]', 'what policy status shows as held; default: whatever is held')
    .requiredOption('-c, --config <file>', 'agent.yaml')
    .requiredOption('--reason <text>', 'why (required); recorded in the audit trail')
    .action(activate);
};
