import type { Command } from 'commander';
import type { AgentView, RevokeAgentView } from '../../control/index.ts';
import { counted, outputOf } from '../output.ts';
import { adminClientOf, adminOptions } from './admin-client.ts';
import { showCut, showEnforcement } from './enforcement.ts';

const SHORT_DIGEST = 12;

const nameOf = ({ agent, instance }: RevokeAgentView): string =>
  instance === null ? `agent ${agent}` : `agent ${agent}, instance ${instance}`;

/** `agents list|revoke`. */
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

  adminOptions(
    group
      .command('revoke <name>')
      .description(
        'refuse an agent for ever, on every node, by the name that it claims, whichever key it logs in with; ' +
          'exits 1 while a node is pending. Who holds its key can claim another name: revoke the key too',
      )
      .option('--instance <id>', 'only this installation of it, as agents list shows it')
      .option('--dry-run', 'only tell what it would cut')
      .requiredOption('--reason <text>', 'kept with the revocation and in the audit trail'),
  ).action(
    async (
      name: string,
      options: { instance?: string; dryRun?: boolean; reason: string },
      command: Command,
    ) => {
      const output = outputOf(command);
      const result = await adminClientOf(command).post<RevokeAgentView>(
        `/agents/${encodeURIComponent(name)}/revoke`,
        {
          ...(options.instance === undefined ? {} : { instance: options.instance }),
          reason: options.reason,
          dry_run: options.dryRun === true,
        },
      );
      output.document(result);
      if (result.dry_run === true) {
        const logins = result.logins ?? 0;
        output.line(
          `would revoke ${nameOf(result)}: ${counted(logins, 'login')}, ${showCut(result)}, on ${counted(result.nodes, 'node')}`,
        );
        if (logins === 0) output.note('no agent of that name is logged in now');
        return;
      }
      showEnforcement(output, `revoked ${nameOf(result)}`, result);
      output.note('who holds the key that it used can log in under another name: revoke the key too');
    },
  );
};
