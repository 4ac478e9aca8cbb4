import type { Command } from 'commander';
import { z } from 'zod';
import { AppError, EXIT } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { type Output, outputOf } from '../output.ts';
import { type AgentFile, agentOf, type AgentPolicy, askStatus } from './agent-access.ts';
import { askQuestion } from './agent-question.ts';
import { readBundleArgument } from './bundle-argument.ts';

type ShadowState = AgentPolicy['policy']['shadow'];

interface ShadowFlags extends AgentFile {
  readonly stop?: true;
  readonly reason?: string;
}

/** The state of a shadow bundle in one line. */
export const shadowText = ({ state, bundle, since, counts, detail }: ShadowState): string => {
  if (state === 'off') return 'none';
  if (bundle === null) return detail === null ? state : `${state}: ${detail}`;
  const would = `${String(counts?.would_deny ?? 0)} would be denied, ${String(counts?.would_allow ?? 0)} allowed`;
  return `sequence ${String(bundle.sequence)}, '${bundle.revision}', since ${since ?? ''}: ${would} of ${String(counts?.evaluated ?? 0)}`;
};

const show = (output: Output, name: string, shadow: ShadowState): void => {
  const { state, bundle, since, counts, detail } = shadow;
  output.document({ agent: name, ...shadow });
  const rows: [string, string][] = [['state', state]];
  if (bundle !== null) {
    const by = bundle.signed_by === null ? 'unsigned' : `signed by ${bundle.signed_by}`;
    rows.push(['bundle', `sequence ${String(bundle.sequence)}, '${bundle.revision}', ${by}`]);
    rows.push(['', bundle.sha256], ['since', since ?? '']);
  }
  if (counts !== null) {
    rows.push(
      ['evaluated', String(counts.evaluated)],
      ['  same', String(counts.same)],
      ['  would deny', String(counts.would_deny)],
      ['  would allow', String(counts.would_allow)],
      ['  other terms', String(counts.otherwise)],
      ['  errors', String(counts.errors)],
      ['dropped', String(counts.dropped)],
    );
    if (counts.unwritten > 0) rows.push(['not in the trail', String(counts.unwritten)]);
  }
  if (detail !== null) rows.push([bundle === null ? 'why' : 'last error', detail]);
  output.table(rows, [
    { title: 'shadow', value: ([what]) => what },
    { title: name, value: ([, value]) => value },
  ]);
};

const shadow = async (path: string | undefined, flags: ShadowFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  if (path !== undefined && flags.stop === true) {
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', 'a bundle and --stop exclude each other');
  }
  const place = await agentOf(flags.config);
  const reason = flags.reason === undefined ? {} : { reason: flags.reason };
  if (flags.stop === true) {
    const answer = await askQuestion(place, { what: 'shadow_stop', ...reason }, output);
    const { stopped } = z.object({ stopped: z.boolean() }).parse(answer);
    output.document({ stopped });
    output.line(
      stopped ? 'stopped: no bundle is evaluated beside the active one' : 'there is no shadow bundle',
    );
    if (!stopped) output.exitWith(EXIT.notSo);
    return;
  }
  if (path !== undefined) {
    const bundle = await readBundleArgument(path);
    await askQuestion(place, { what: 'shadow_start', bundle, ...reason }, output);
  }
  const { name, policy } = await askStatus(place);
  show(output, name, policy.shadow);
  if (policy.shadow.state === 'refused' || policy.shadow.state === 'failed') output.exitWith(EXIT.notSo);
};

/** `sallyport policy shadow` */
export const shadowCommand = (policy: Command): void => {
  policy
    .command('shadow')
    .summary('evaluate a second bundle beside the active one, never enforced')
    .description(
      'With a bundle, an agent evaluates it beside the active one from now on, over restarts, until --stop or until it ' +
        'is activated: differences are recorded as policy.shadow, nothing is enforced. Without one, shows state and ' +
        'counts. `audit query shadow-differences` sums up. Connects to: the status address of agent.yaml; writes to ' +
        "the agent's state directory.",
    )
    .argument('[bundle]', 'bundle file or policy directory; signed where the agent requires it')
    .requiredOption('-c, --config <file>', 'agent.yaml')
    .option('--stop', 'end it')
    .option('--reason <text>', 'why; recorded in the audit trail')
    .action(shadow);
};
