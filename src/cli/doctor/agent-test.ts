import type { Command } from 'commander';
import { agentConfigSchema, type AgentInspection, inspectAgent } from '../../agent/index.ts';
import {
  AppError,
  EXIT,
  formatHostPort,
  type HostPort,
  parseHostPort,
  silentLogger,
  systemClock,
} from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { outputOf } from '../output.ts';
import { configOf, readOwnConfig } from '../process/run.ts';
import { type Check, checkOf } from './line.ts';
import { verdictCheck } from './policy-checks.ts';
import { doctorExit, linesDocument, runChecks, show } from './run.ts';
import { targetCheck } from './target-checks.ts';

interface AgentTestOptions {
  readonly config?: string;
  readonly connection?: string;
  readonly principal: readonly string[];
}

const NAME = /^[a-z0-9-]{1,63}$/;

/** Whether managed settings of this machine let the target be dialled, whatever policy says. */
const managedCheck = ({ managed, resolver }: AgentInspection, { host, port }: HostPort): Check =>
  checkOf('managed', formatHostPort({ host, port }), async (lines) => {
    const remedy = 'the administrator of this machine decides: docs/policy.md, Managed settings';
    const everything = managed.barsAll();
    if (everything !== undefined) {
      lines.fail(`managed settings refuse everything: ${everything}`, remedy);
      return;
    }
    const resolution = await resolver.resolve(host);
    for (const address of resolution.ok ? resolution.addresses : []) {
      const bar = managed.barsTarget(host, port, address);
      if (bar === undefined) lines.pass(`${address}: managed settings do not restrict it`);
      else lines.fail(`${address}: managed settings refuse it: ${bar}`, remedy);
    }
  });

const targetOf = (text: string): HostPort => {
  const target = parseHostPort(text);
  if (target.port === 0) throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `${text}: port 0 is nobody's`);
  return target;
};

/** The whole of `agent test`. */
export const testTarget = async (text: string, command: Command): Promise<void> => {
  const options = command.optsWithGlobals<AgentTestOptions>();
  const output = outputOf(command);
  const { connection, principal } = options;
  if (connection !== undefined && !NAME.test(connection))
    throw new AppError<CliErrorCode>(
      'ERR_CLI_USAGE',
      `--connection is letters, digits and dashes, at most 63, not ${JSON.stringify(connection.slice(0, 80))}`,
    );
  if (connection === undefined && principal.length > 0)
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', '--principal goes with --connection');
  const target = targetOf(text);
  const kind = { name: 'agent', schema: agentConfigSchema } as const;
  const config = await readOwnConfig(configOf(options, command), kind, (message) => output.note(message));
  const inspected = await inspectAgent(config, { clock: systemClock, logger: silentLogger });
  try {
    const known = { connection: connection ?? formatHostPort(target), target, from: 'given' };
    const access = { agent: inspected, clock: systemClock, principals: () => principal };
    const lines = await runChecks(
      [
        managedCheck(inspected, target),
        targetCheck(known, inspected, systemClock),
        ...(connection === undefined ? [] : [verdictCheck(access, known)]),
      ],
      output,
    );
    const code = doctorExit(lines);
    output.document({
      ok: code === EXIT.ok,
      target: formatHostPort(target),
      checks: linesDocument(lines),
    });
    for (const line of lines) show(output, line);
    if (connection === undefined)
      output.note('what policy says: --connection NAME, and --principal NAME for its streams');
    output.exitWith(code);
  } finally {
    await inspected.close();
  }
};
