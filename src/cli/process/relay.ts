import type { Command } from 'commander';
import { installCommand } from '../service/command.ts';
import { type ProcessOptions, processCommand, runProcess } from './run.ts';

const SECOND_MS = 1_000;

export const relayCommand = (program: Command): void => {
  const relay = processCommand(program, 'relay')
    .summary('run a relay node: the public rendezvous')
    .description(
      'Runs a relay node in the foreground. ' +
        'Connects to: its control database and its audit database. Listens for agents and gateways, and on the ' +
        'management and status addresses of its configuration. ' +
        'SIGTERM moves links elsewhere first, SIGHUP reads the configuration again.',
    )
    .action(async (options: ProcessOptions, command: Command) => {
      const { relayConfigSchema, startRelay } = await import('../../relay/index.ts');
      await runProcess(
        {
          name: 'relay',
          schema: relayConfigSchema,
          start: startRelay,
          drainMs: (config) => config.drain_seconds * SECOND_MS,
        },
        options,
        command,
      );
    });
  installCommand(relay, 'relay', async () => (await import('../../relay/index.ts')).relayConfigSchema);
};
