import type { Command } from 'commander';
import { z } from 'zod';
import { AppError, EXIT, messageOf, readConfig, sleep, systemClock } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { type Output, outputOf } from '../output.ts';

const ANSWER_MS = 5_000;
const LOOK_PERIOD_MS = 200;
/** An agent looks for confirmations twice a second; then it starts an engine and runs the vectors. */
const ACTIVATION_LIMIT_MS = 60_000;

const bundleSchema = z.object({ sha256: z.string(), revision: z.string(), sequence: z.number() });
const statusSchema = z.object({
  name: z.string(),
  streams: z.object({ open: z.number() }),
  policy: z.object({
    active: bundleSchema
      .extend({ signedBy: z.string().optional(), generation: z.number(), activatedMs: z.number() })
      .optional(),
    held: bundleSchema
      .extend({ id: z.string(), atMs: z.number(), wouldClose: z.number(), live: z.number() })
      .optional(),
    rejected: z.object({ atMs: z.number(), code: z.string(), message: z.string() }).optional(),
    source: z.object({ kind: z.string() }).catchall(z.union([z.string(), z.number(), z.boolean(), z.null()])),
  }),
});
type AgentPolicy = z.output<typeof statusSchema>;

interface AgentFile {
  readonly config: string;
}

const agentOf = async (file: string): Promise<{ statusUrl: string; stateDir: string }> => {
  const { agentConfigSchema } = await import('../../agent/index.ts');
  const config = await readConfig(file, agentConfigSchema);
  return { statusUrl: `http://${config.status.listen}/status`, stateDir: config.state_dir };
};

const ask = async (statusUrl: string): Promise<AgentPolicy> => {
  try {
    const response = await fetch(statusUrl, { signal: AbortSignal.timeout(ANSWER_MS) });
    return statusSchema.parse(await response.json());
  } catch (cause) {
    throw new AppError<CliErrorCode>(
      'ERR_CLI_AGENT_UNREACHABLE',
      `no agent answers at ${statusUrl}: ${messageOf(cause)}; run this where the agent runs`,
      { cause },
    );
  }
};

const instant = (ms: number): string => new Date(ms).toISOString();

const show = (output: Output, { name, streams, policy }: AgentPolicy): void => {
  const { active, held, rejected, source } = policy;
  output.document({ agent: name, streams: streams.open, ...policy });
  const rows: [string, string][] = [];
  if (active === undefined) rows.push(['active', 'none: every stream is denied']);
  else {
    const by = active.signedBy === undefined ? 'unsigned' : `signed by ${active.signedBy}`;
    const since = instant(active.activatedMs);
    rows.push(['active', `sequence ${String(active.sequence)}, '${active.revision}', ${by}, since ${since}`]);
    rows.push(['', active.sha256]);
  }
  if (held !== undefined) {
    const cost = `would close ${String(held.wouldClose)} of ${String(held.live)} live streams`;
    rows.push([
      'held',
      `sequence ${String(held.sequence)}, '${held.revision}': ${cost}, since ${instant(held.atMs)}`,
    ]);
    rows.push(['', held.id]);
  }
  if (rejected !== undefined) {
    rows.push(['refused', `${instant(rejected.atMs)}: ${rejected.message} (${rejected.code})`]);
  }
  for (const [key, value] of Object.entries(source)) {
    if (value !== null) rows.push([key === 'kind' ? 'source' : `  ${key}`, String(value)]);
  }
  output.table(rows, [
    { title: 'what', value: ([what]) => what },
    { title: name, value: ([, value]) => value },
  ]);
};

const status = async (flags: AgentFile, command: Command): Promise<void> => {
  const output = outputOf(command);
  const { statusUrl } = await agentOf(flags.config);
  const answer = await ask(statusUrl);
  show(output, answer);
  if (answer.policy.active === undefined || answer.policy.source['stale'] === true)
    output.exitWith(EXIT.notSo);
};

const activate = async (
  id: string | undefined,
  flags: AgentFile & { readonly reason: string },
  command: Command,
): Promise<void> => {
  const output = outputOf(command);
  const { statusUrl, stateDir } = await agentOf(flags.config);
  const { held } = (await ask(statusUrl)).policy;
  if (held === undefined || (id !== undefined && id !== held.id)) {
    const why = held === undefined ? 'nothing is held' : `what is held is ${held.id}`;
    output.document({ activated: false, why });
    output.line(`not activated: ${why}`);
    output.exitWith(EXIT.notSo);
    return;
  }
  const { askToActivate } = await import('../../agent/index.ts');
  askToActivate(stateDir, held.id, flags.reason, systemClock);
  const untilMs = systemClock.monotonicMs() + ACTIVATION_LIMIT_MS;
  for (;;) {
    output.progress('waiting for the agent …');
    await sleep(systemClock, LOOK_PERIOD_MS);
    const { policy } = await ask(statusUrl);
    if (policy.held === undefined && policy.active?.sha256 === held.sha256) {
      output.document({ activated: true, ...held });
      output.line(`active: sequence ${String(held.sequence)}, '${held.revision}', ${held.sha256}`);
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
  policy
    .command('status')
    .summary('which bundle an agent runs, holds and refused')
    .description(
      'Shows the active bundle of an agent, a held one, the last refusal and where bundles come from. ' +
        'Connects to: the status address of agent.yaml.',
    )
    .requiredOption('-c, --config <file>', 'agent.yaml')
    .action(status);
  policy
    .command('activate')
    .summary('confirm a held activation')
    .description(
      'Confirms an activation that an agent holds because it would close many live streams; the trail has it as ' +
        "admin.action. Connects to: the status address of agent.yaml; writes to the agent's state directory.",
    )
    .argument('[id]', 'what policy status shows as held; default: whatever is held')
    .requiredOption('-c, --config <file>', 'agent.yaml')
    .requiredOption('--reason <text>', 'why; recorded in the audit trail')
    .action(activate);
};
