import type { Command } from 'commander';
import { installCommand } from '../service/command.ts';
import { type ProcessOptions, processCommand, runProcess } from './run.ts';

const SECOND_MS = 1_000;

export const gatewayCommand = (program: Command): void => {
  const gateway = processCommand(program, 'gateway')
    .summary('run the gateway: the entrance beside the applications')
    .description(
      'Runs the gateway in the foreground, beside the applications. ' +
        'Connects to: the relays of its configuration. Listens for applications where its configuration says, ' +
        'and on its loopback status address. ' +
        'SIGTERM lets streams finish, SIGHUP reads the configuration again.',
    )
    .action(async (options: ProcessOptions, command: Command) => {
      const { gatewayConfigSchema, startGateway } = await import('../../gateway/index.ts');
      await runProcess(
        {
          name: 'gateway',
          schema: gatewayConfigSchema,
          start: startGateway,
          drainMs: (config) => config.limits.drain_seconds * SECOND_MS,
        },
        options,
        command,
      );
    });
  installCommand(
    gateway,
    'gateway',
    async () => (await import('../../gateway/index.ts')).gatewayConfigSchema,
  );
};
