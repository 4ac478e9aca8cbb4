import type { Command } from 'commander';
import { readdirSync } from 'node:fs';
import {
  AppError,
  EXIT,
  formatProblem,
  type HostPort,
  parseHostPort,
  readConfig,
  systemClock,
} from '../../runtime/index.ts';
import { checkConfig, configName, type ProcessKind } from '../check.ts';
import type { CliErrorCode } from '../errors.ts';
import { counted, type Output, outputOf } from '../output.ts';
import type { DoctorHints, Plan } from './of-agent.ts';
import { count, doctorExit, linesDocument, runChecks, show } from './run.ts';

interface DoctorOptions {
  readonly config: string;
  readonly kind?: string;
  readonly target: readonly string[];
  readonly principal: readonly string[];
}

const collect = (value: string, before: readonly string[]): string[] => [...before, value];

const usage = (message: string): AppError<CliErrorCode> => new AppError('ERR_CLI_USAGE', message);

const targetsOf = (given: readonly string[]): Map<string, HostPort> =>
  new Map(
    given.map((text) => {
      const [, name, target] = /^([a-z0-9-]{1,63})=(.+)$/.exec(text) ?? [];
      if (name === undefined || target === undefined)
        throw usage(`--target is NAME=HOST:PORT, not ${JSON.stringify(text.slice(0, 80))}`);
      return [name, parseHostPort(target)];
    }),
  );

const newestMigration = async (): Promise<string | undefined> => {
  const { migrationDirectory } = await import('../deploy/database.ts');
  return readdirSync(migrationDirectory('audit'))
    .filter((name) => /^\d{4}_.*\.sql$/.test(name))
    .map((name) => name.replace(/\.sql$/, ''))
    .sort()
    .at(-1);
};

const planOf = async (kind: ProcessKind, file: string, hints: DoctorHints): Promise<Plan> => {
  switch (kind) {
    case 'agent': {
      const { agentConfigSchema } = await import('../../agent/index.ts');
      const { agentPlan } = await import('./of-agent.ts');
      return agentPlan(await readConfig(file, agentConfigSchema), systemClock, hints);
    }
    case 'gateway': {
      const { gatewayConfigSchema } = await import('../../gateway/index.ts');
      const { gatewayPlan } = await import('./of-gateway.ts');
      return gatewayPlan(await readConfig(file, gatewayConfigSchema), systemClock);
    }
    case 'relay': {
      const { relayConfigSchema } = await import('../../relay/index.ts');
      const { relayPlan } = await import('./of-relay.ts');
      return relayPlan(await readConfig(file, relayConfigSchema), systemClock, hints);
    }
  }
};

/** The kind of a configuration that is valid; every problem is shown otherwise. */
const checked = async (options: DoctorOptions, output: Output): Promise<ProcessKind | undefined> => {
  const wanted = (['relay', 'agent', 'gateway'] as const).find((known) => known === options.kind);
  if (options.kind !== undefined && wanted === undefined)
    throw usage(`--kind is relay, agent or gateway, not ${JSON.stringify(options.kind)}`);
  const { kind, problems } = await checkConfig(options.config, wanted);
  if (kind === 'managed')
    throw usage(
      `${options.config} is managed settings, which have no environment: \`sallyport check -c\` checks them`,
    );
  if (problems.length === 0) return kind;
  output.document({ ok: false, kind, file: options.config, problems, checks: [] });
  for (const problem of problems) output.line(formatProblem(problem));
  output.line(`${counted(problems.length, 'problem')} in ${options.config} (read as ${configName(kind)})`);
  output.exitWith(EXIT.usage);
  return undefined;
};

const examine = async (options: DoctorOptions, output: Output): Promise<void> => {
  const kind = await checked(options, output);
  if (kind === undefined) return;
  const hints = {
    targets: targetsOf(options.target),
    principals: options.principal,
    newestAudit: await newestMigration(),
  };
  output.line(`pass  configuration ${options.config}: ${configName(kind)} without a problem`);
  const plan = await planOf(kind, options.config, hints);
  try {
    const lines = await runChecks(plan.checks, output);
    const code = doctorExit(lines);
    output.document({
      ok: code === EXIT.ok,
      kind,
      file: options.config,
      checks: linesDocument(lines),
    });
    for (const line of lines) show(output, line);
    output.line(
      `${counted(count(lines, 'fail'), 'failure')}, ${counted(count(lines, 'warn'), 'warning')}, ${String(count(lines, 'pass') + 1)} passed, ${String(count(lines, 'skip'))} not looked at`,
    );
    output.exitWith(code);
  } finally {
    await plan.close();
  }
};

export const doctorCommand = (program: Command): void => {
  program
    .command('doctor')
    .summary('check the environment of a configuration, each line with its remedy')
    .description(
      'Checks relay.yaml, agent.yaml or gateway.yaml as `check` does, and then what is around it: names, ports, proxy, TLS, ' +
        'revocation, clock, state directory, databases, bundle; for an agent also each target and what policy says of it. ' +
        'Reads only, and changes nothing. Connects to: the relays, the CRL servers of their certificates, the databases of the ' +
        'configuration, for an agent the targets, and the status listener of the process, if it runs. ' +
        'Exits 0 when nothing fails (warnings do not count), 1 when something does, 2 when the configuration is wrong, ' +
        '3 when all that fails is that somebody does not answer.',
    )
    .requiredOption('-c, --config <file>', 'the configuration')
    .option('--kind <process>', 'relay, agent or gateway; default: told by its keys')
    .option(
      '--target <name=host:port>',
      'of an agent that does not run: where a connection leads; again for more',
      collect,
      [],
    )
    .option('--principal <name>', 'ask policy for streams of this auth-rule too; again for more', collect, [])
    .action(async (options: DoctorOptions, command: Command) => {
      await examine(options, outputOf(command));
    });
};
