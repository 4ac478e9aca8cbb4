import type { Command } from 'commander';
import type { KeptRevocation } from '../../agent/index.ts';
import { AppError, EXIT, readConfig, silentLogger, systemClock } from '../../runtime/index.ts';
import { outputOf } from '../output.ts';
import { configOf } from './run.ts';

interface Options {
  readonly config?: string;
}

const KEY_ID = /^k_[0-9a-f]{20}$/;

const stateOf = async (command: Command): Promise<{ stateDir: string; kept: readonly KeptRevocation[] }> => {
  const { agentConfigSchema, RevocationSet } = await import('../../agent/index.ts');
  const config = await readConfig(configOf(command.optsWithGlobals<Options>(), command), agentConfigSchema);
  return {
    stateDir: config.state_dir,
    kept: new RevocationSet(config.state_dir, systemClock, silentLogger).all(),
  };
};

/** `agent revocations list|forget`. */
export const agentRevocationCommands = (agent: Command): void => {
  const group = agent
    .command('revocations')
    .summary('what this agent keeps of revoked keys')
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
      const rows = kept.map(({ key_id, reason, revocation_id, nodes, told_at_ms }) => ({
        key_id,
        reason,
        revocation_id,
        nodes,
        told_at: new Date(told_at_ms).toISOString(),
      }));
      output.document(rows);
      output.table(rows, [
        { title: 'key id', value: (row) => row.key_id },
        { title: 'reason', value: (row) => row.reason },
        { title: 'told by', value: (row) => row.nodes.join(', ') },
        { title: 'told at', value: (row) => row.told_at },
      ]);
    });

  group
    .command('forget <key-id>')
    .description('for a relay node that lied: the agent records it and forgets the revocation')
    .option('-c, --config <file>', 'agent.yaml')
    .requiredOption('--reason <text>', 'why; recorded in the audit trail')
    .action(async (keyId: string, options: Options & { reason: string }, command: Command) => {
      const output = outputOf(command);
      if (!KEY_ID.test(keyId)) {
        throw new AppError(
          'ERR_CLI_USAGE',
          `${JSON.stringify(keyId)} is not a key id (k_ and 20 hex digits)`,
        );
      }
      const { stateDir, kept } = await stateOf(command);
      const entry = kept.find(({ key_id }) => key_id === keyId);
      output.document({ key_id: keyId, asked: entry !== undefined });
      if (entry === undefined) {
        output.line(`this agent keeps no revocation of ${keyId}`);
        output.exitWith(EXIT.notSo);
        return;
      }
      const { askToForget } = await import('../../agent/index.ts');
      askToForget(stateDir, keyId, options.reason, systemClock);
      output.line(
        `asked: the agent forgets ${keyId} (told by ${entry.nodes.join(', ')}) when it is sent SIGHUP or starts`,
      );
      output.note('a node that still tells it is believed again');
    });
};
