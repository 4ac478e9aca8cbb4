import type { Command } from 'commander';
import { AppError } from '../../runtime/index.ts';
import { collect } from '../deploy/publication.ts';
import { outputOf } from '../output.ts';
import type { InitOptions } from './action.ts';

export const initCommand = (program: Command): void => {
  program
    .command('init')
    .argument('<dir>', 'where to write; must hold none of these files')
    .argument('[more...]')
    .usage('[options] <dir>')
    .summary("a real deployment's files")
    .description(
      'Writes relay.yaml (with several --node one NAME.yaml each), agent.yaml and gateway.yaml, a policy skeleton with its bundle, keyring, CA and relay ' +
        'certificate, the audit root with its trust file, and the keys of each connection; then says what to run. ' +
        'Connects to: the database given, where it applies the migrations and makes connections, roles and keys. ' +
        'A database that another deployment uses is refused, and left as it is.',
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
      'a relay port (repeatable): the first, and 443, to connect, all for data (default: 5671 and 9352)',
      collect,
    )
    .option('--admin <addr:port>', 'where the relay serves the management API', '127.0.0.1:9350')
    .option('--agent <name>', "the agent's name", 'agent-1')
    .option(
      '--database <url>',
      'PostgreSQL for control and audit, as an owner that may make roles; default: DATABASE_URL',
    )
    .option(
      '--replace-logins',
      'give database logins of these names new passwords, when they are there already',
    )
    .action(async (path: string, more: readonly string[], options: InitOptions, command: Command) => {
      if (more.length > 0) {
        throw new AppError(
          'ERR_CLI_USAGE',
          `init takes one directory, and ${JSON.stringify(more[0])} came after it; an option that is repeatable takes one value each time: --relay-port 5671 --relay-port 9352`,
        );
      }
      const { runInit } = await import('./action.ts');
      await runInit(path, options, outputOf(command));
    });
};
