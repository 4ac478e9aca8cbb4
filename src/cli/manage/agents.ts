import type { Command } from 'commander';
import type { AgentView } from '../../control/index.ts';
import { outputOf } from '../output.ts';
import { adminClientOf, adminOptions } from './admin-client.ts';

const SHORT_DIGEST = 12;

/** `agents list`. */
export const agentsCommands = (program: Command): void => {
  const group = program
    .command('agents')
    .description('Agents that are logged in, at whatever node. Connects to: the management API.');

  adminOptions(
    group
      .command('list')
      .description('who is logged in where, on which key, with which bundle')
      .option('--name <name>', 'agents of one name'),
  ).action(async (options: { name?: string }, command: Command) => {
    const output = outputOf(command);
    const rows = await adminClientOf(command).list<AgentView>('/agents', { name: options.name });
    output.document(rows);
    output.table(rows, [
      { title: 'agent', value: (row) => row.name },
      { title: 'instance', value: (row) => row.instance },
      {
        title: 'nodes',
        value: (row) =>
          row.nodes.map(({ node, state }) => (state === 'up' ? node : `${node} (down)`)).join(','),
      },
      { title: 'since', value: (row) => row.since },
      {
        title: 'keys',
        value: (row) => row.credentials.map((one) => `${one.principal} ${one.key_id}`).join(','),
      },
      { title: 'publishes', value: (row) => row.published.join(',') },
      {
        title: 'bundle',
        value: (row) =>
          row.bundle_sha256 === null
            ? null
            : `${row.bundle_sha256.slice(0, SHORT_DIGEST)} #${row.bundle_sequence ?? '?'}`,
      },
      { title: 'links', value: (row) => row.links, align: 'right' },
      { title: 'streams', value: (row) => row.streams, align: 'right' },
    ]);
  });
};
