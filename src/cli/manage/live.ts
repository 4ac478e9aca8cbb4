import type { Command } from 'commander';
import type { LinkInfo, LoginInfo, StreamInfo } from '../../control/index.ts';
import { AppError, isAppError } from '../../runtime/index.ts';
import { outputOf } from '../output.ts';
import { adminClientOf, adminOptions, LIVE_PAGE } from './admin-client.ts';
import type { ManageErrorCode } from './errors.ts';

const ofConnection = (command: Command): Command =>
  adminOptions(command.option('--connection <name>', 'of one connection'));

/** `stream list|show|close`. */
export const streamCommands = (program: Command): void => {
  const group = program
    .command('stream')
    .description('Open streams, asked live of the agents. Connects to: the management API.');

  ofConnection(group.command('list').description('open streams'))
    .option('--key <key-id>', 'of one key')
    .action(async (options: { connection?: string; key?: string }, command: Command) => {
      const output = outputOf(command);
      const query = { connection: options.connection, key_id: options.key, limit: LIVE_PAGE };
      const items = await adminClientOf(command).list<StreamInfo>('/streams', query);
      output.document(items);
      output.table(items, [
        { title: 'stream', value: (row) => row.stream_id },
        { title: 'connection', value: (row) => row.connection },
        { title: 'principal', value: (row) => row.principal },
        { title: 'target', value: (row) => row.target },
        { title: 'gateway', value: (row) => row.gateway },
        { title: 'agent', value: (row) => row.agent },
        { title: 'opened', value: (row) => row.opened_at },
        { title: 'up', value: (row) => row.bytes_up, align: 'right' },
        { title: 'down', value: (row) => row.bytes_down, align: 'right' },
        { title: 'rule', value: (row) => row.policy_rule },
      ]);
    });

  adminOptions(group.command('show <stream-id>').description('one open stream')).action(
    async (id: string, _options: object, command: Command) => {
      const output = outputOf(command);
      let found: StreamInfo;
      try {
        found = await adminClientOf(command).get<StreamInfo>(`/streams/${encodeURIComponent(id)}`);
      } catch (error) {
        if (!isAppError(error, 'ERR_MANAGE_REFUSED') || !error.message.includes('not_found')) throw error;
        const remedy = 'of a closed one `audit show` tells the story';
        throw new AppError<ManageErrorCode>(
          'ERR_MANAGE_REFUSED',
          `no open stream ${JSON.stringify(id)}; ${remedy}`,
          { cause: error },
        );
      }
      output.document(found);
      for (const [name, value] of Object.entries(found)) output.line(`${name}: ${String(value)}`);
    },
  );

  adminOptions(
    group
      .command('close <stream-id>')
      .description('close one stream: both ends see a reset, the record says admin_closed')
      .option('--reason <text>', 'kept in the audit trail'),
  ).action(async (id: string, options: { reason?: string }, command: Command) => {
    const output = outputOf(command);
    const path = `/streams/${encodeURIComponent(id)}/close`;
    const closed = await adminClientOf(command).post<{ stream_id: string }>(path, {
      reason: options.reason ?? '',
    });
    output.document(closed);
    output.line(`closed ${closed.stream_id}`);
  });
};

/** `login list`. */
export const loginCommands = (program: Command): void => {
  const group = program
    .command('login')
    .description('Agents and gateways at this node. Connects to: the management API.');
  adminOptions(group.command('list').description('who is logged in')).action(
    async (_options: object, command: Command) => {
      const output = outputOf(command);
      const items = await adminClientOf(command).list<LoginInfo>('/logins', { limit: LIVE_PAGE });
      output.document(items);
      output.table(items, [
        { title: 'role', value: (row) => row.role },
        { title: 'name', value: (row) => row.name },
        { title: 'node', value: (row) => row.node },
        { title: 'address', value: (row) => row.address },
        { title: 'state', value: (row) => row.state },
        { title: 'since', value: (row) => row.opened_at },
        { title: 'principals', value: (row) => row.credentials.map((one) => one.principal).join(',') },
        { title: 'publishes', value: (row) => row.published.join(',') },
      ]);
    },
  );
};

/** `link list`. */
export const linkCommands = (program: Command): void => {
  const group = program
    .command('link')
    .description('Data links that this node joins. Connects to: the management API.');
  ofConnection(group.command('list').description('data links')).action(
    async (options: { connection?: string }, command: Command) => {
      const output = outputOf(command);
      const query = { connection: options.connection, limit: LIVE_PAGE };
      const items = await adminClientOf(command).list<LinkInfo>('/links', query);
      output.document(items);
      output.table(items, [
        { title: 'link', value: (row) => row.link_id },
        { title: 'connection', value: (row) => row.connection },
        { title: 'carrier', value: (row) => row.carrier },
        { title: 'state', value: (row) => row.state },
        { title: 'sender', value: (row) => row.sender_principal },
        { title: 'listener', value: (row) => row.listener_principal },
        { title: 'gateway', value: (row) => row.gateway },
        { title: 'agent', value: (row) => row.agent },
        { title: 'since', value: (row) => row.opened_at },
        { title: 'up', value: (row) => row.bytes_up, align: 'right' },
        { title: 'down', value: (row) => row.bytes_down, align: 'right' },
      ]);
    },
  );
};
