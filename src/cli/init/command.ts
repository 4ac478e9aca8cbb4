import type { Command } from 'commander';
import { collect } from '../deploy/publication.ts';
import { outputOf } from '../output.ts';
import type { InitOptions } from './action.ts';

export const initCommand = (program: Command): void => {
  program
    .command('init')
    .argument('<dir>', 'where to write; must hold none of these files')
    .summary("a real deployment's files")
    .description(
      'Writes relay.yaml (with several --node one NAME.yaml each), agent.yaml and gateway.yaml, a policy skeleton with its bundle, keyring, CA and relay ' +
        'certificate, the audit root with its trust file, and the keys of each connection; then says what to run. ' +
        'Connects to: the database given, where it applies the migrations and makes connections, roles and keys.',
    )
    .option('--publish <name=host:port>', 'a connection and its target (repeatable, at least one)', collect)
    .option('--listen <name=addr:port>', 'where the gateway listens for a connection (repeatable)', collect)
    .option('--host <name>', 'the name by which agents and gateways reach the relay', 'localhost')
    .option(
      '--node <name=host>',
      'a relay node and its own host name (repeatable; default: one, relay-1, at --host)',
      collect,
    )
    .option(
      '--relay-port <port>',
      'relay ports: the first to connect, all for data (default: 5671 9352)',
      collect,
    )
    .option('--admin <addr:port>', 'where the relay serves the management API', '127.0.0.1:9350')
    .option('--database <url>', 'PostgreSQL for control and audit, as its owner; default: DATABASE_URL')
    .action(async (path: string, options: InitOptions, command: Command) => {
      const { runInit } = await import('./action.ts');
      await runInit(path, options, outputOf(command));
    });
};
