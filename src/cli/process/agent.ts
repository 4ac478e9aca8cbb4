import type { Command } from 'commander';
import { agentTestCommand } from './agent-test.ts';
import { agentRevocationCommands } from './agent-revocations.ts';
import { installCommand } from '../service/command.ts';
import { type ProcessOptions, processCommand, runProcess } from './run.ts';

const SECOND_MS = 1_000;

export const agentCommand = (program: Command): void => {
  const agent = processCommand(program, 'agent')
    .summary('run the agent: decides, dials the targets, records')
    .description(
      'Runs the agent in the foreground, on the private network. ' +
        'Connects to: the relays of its configuration (outbound only), the targets that policy allows, its own ' +
        'audit database. Listens on its loopback status address only. ' +
        'SIGTERM lets streams finish, SIGHUP reads the configuration again.',
    )
    .action(async (options: ProcessOptions, command: Command) => {
      const { agentConfigSchema, startAgent } = await import('../../agent/index.ts');
      await runProcess(
        {
          name: 'agent',
          schema: agentConfigSchema,
          start: startAgent,
          drainMs: (config) => config.limits.drain_seconds * SECOND_MS,
        },
        options,
        command,
      );
    });
  agentRevocationCommands(agent);
  agentTestCommand(agent);
  installCommand(agent, 'agent', async () => (await import('../../agent/index.ts')).agentConfigSchema);
};
