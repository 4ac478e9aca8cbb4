import type { Command } from 'commander';
import type { KeptRevocation } from '../../agent/index.ts';
import { AppError, EXIT, readConfig, silentLogger, systemClock } from '../../runtime/index.ts';
import { outputOf } from '../output.ts';
import { configOf } from './run.ts';

interface Options {
  readonly config?: string;
}

/** A key's id, `agent/NAME`, `agent/NAME/INSTANCE` or `connection/ID`. */
const REVOKED_ID =
  /^(?:k_[0-9a-f]{20}|agent\/[a-z0-9-]{1,63}(?:\/[A-Za-z0-9-]{1,128})?|connection\/[0-9a-f-]{36})$/;

const stateOf = async (
  command: Command,
): Promise<{ stateDir: string; kept: readonly (KeptRevocation & { readonly revoked: string })[] }> => {
  const { agentConfigSchema, revokedIdOf, RevocationSet } = await import('../../agent/index.ts');
  const config = await readConfig(configOf(command.optsWithGlobals<Options>(), command), agentConfigSchema);
  return {
    stateDir: config.state_dir,
    kept: new RevocationSet(config.state_dir, systemClock, silentLogger)
      .all()
      .map((entry) => ({ ...entry, revoked: revokedIdOf(entry) })),
  };
};

/** `agent revocations list|forget`. */
export const agentRevocationCommands = (agent: Command): void => {
  const group = agent
    .command('revocations')
    .summary('what this agent keeps of revoked keys, agents and connections')
    .description(
      'The revocations that relay nodes told this agent, which it enforces by itself over every node and after a restart. ' +
        'Connects to: nothing; reads the state directory of agent.yaml.',
    );

  group
    .command('list')
    .description('every revocation, with the nodes that told it')
    .option('-c, --config <file>', 'agent.yaml')
    .action(async (_options: Options, command: Command) => {
      const output = outputOf(command);
      const { kept } = await stateOf(command);
      const rows = kept.map(({ revoked, key_id, reason, revocation_id, nodes, told_at_ms }) => ({
        revoked,
        key_id: key_id === '' ? null : key_id,
        reason,
        revocation_id,
        nodes,
        told_at: new Date(told_at_ms).toISOString(),
      }));
      output.document(rows);
      output.table(rows, [
        { title: 'revoked', value: (row) => row.revoked },
        { title: 'reason', value: (row) => row.reason },
        { title: 'told by', value: (row) => row.nodes.join(', ') },
        { title: 'told at', value: (row) => row.told_at },
      ]);
    });

  group
    .command('forget <id>')
    .description('for a relay node that lied: the agent records it and forgets the revocation')
    .option('-c, --config <file>', 'agent.yaml')
    .requiredOption('--reason <text>', 'why; recorded in the audit trail')
    .action(async (id: string, options: Options & { reason: string }, command: Command) => {
      const output = outputOf(command);
      if (!REVOKED_ID.test(id)) {
        throw new AppError(
          'ERR_CLI_USAGE',
          `${JSON.stringify(id)} is not a key id (k_ and 20 hex digits), agent/NAME[/INSTANCE] or connection/ID`,
        );
      }
      const { stateDir, kept } = await stateOf(command);
      const entry = kept.find(({ revoked }) => revoked === id);
      output.document({ revoked: id, asked: entry !== undefined });
      if (entry === undefined) {
        output.line(`this agent keeps no revocation of ${id}`);
        output.exitWith(EXIT.notSo);
        return;
      }
      const { askToForget } = await import('../../agent/index.ts');
      askToForget(stateDir, id, options.reason, systemClock);
      output.line(
        `asked: the agent forgets ${id} (told by ${entry.nodes.join(', ')}) when it is sent SIGHUP or starts`,
      );
      output.note('a node that still tells it is believed again');
    });
};
