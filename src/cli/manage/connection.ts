import type { Command } from 'commander';
import type { ConnectionView, DisclosedKeyView, EnforcementView } from '../../control/index.ts';
import { formatHostPort, parseHostPort } from '../../runtime/index.ts';
import { counted, outputOf } from '../output.ts';
import { adminClientOf, adminOptions } from './admin-client.ts';
import { showEnforcement } from './enforcement.ts';
import { collectLabel, parseVersion, showKeys } from './words.ts';

interface WriteOptions {
  readonly target?: string;
  readonly label: Record<string, string>;
}

const pathOf = (name: string): string => `/connections/${encodeURIComponent(name)}`;

const showLabels = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');

/** `connection list|show|create|update|delete`. */
export const connectionCommands = (program: Command): void => {
  const group = program
    .command('connection')
    .description('Connections and their targets. Connects to: the management API.');

  adminOptions(group.command('list').description('every connection')).action(
    async (_options: object, command: Command) => {
      const output = outputOf(command);
      const rows = await adminClientOf(command).list<ConnectionView>('/connections');
      output.document(rows);
      output.table(rows, [
        { title: 'name', value: (row) => row.name },
        { title: 'target', value: (row) => formatHostPort(row.target) },
        { title: 'labels', value: (row) => showLabels(row.labels) },
        { title: 'created', value: (row) => row.created_at },
      ]);
    },
  );

  adminOptions(group.command('show <name>').description('one connection')).action(
    async (name: string, _options: object, command: Command) => {
      const output = outputOf(command);
      const row = await adminClientOf(command).get<ConnectionView>(pathOf(name));
      output.document(row);
      output.line(`${row.name} -> ${formatHostPort(row.target)}`);
      output.line(`labels ${showLabels(row.labels) || '-'}; version ${row.version}; id ${row.id}`);
      output.line(`created ${row.created_at}; changed ${row.updated_at}`);
    },
  );

  adminOptions(
    group
      .command('create <name>')
      .description('a new connection; prints the connection strings of its four keys, this once')
      .requiredOption('--target <host:port>', 'the one target that it carries')
      .option('--label <name=value>', 'a label that policy sees; may be repeated', collectLabel, {}),
  ).action(async (name: string, options: WriteOptions, command: Command) => {
    const output = outputOf(command);
    const made = await adminClientOf(command).post<ConnectionView & { keys: DisclosedKeyView[] }>(
      '/connections',
      {
        name,
        target: parseHostPort(options.target ?? ''),
        labels: options.label,
      },
    );
    output.document(made);
    output.line(`${made.name} -> ${formatHostPort(made.target)}`);
    showKeys(output, made.keys);
    output.note('these keys are not shown again; defaultListener is for agents, defaultSender for gateways');
  });

  adminOptions(
    group
      .command('update <name>')
      .description('change target or labels (given labels replace all)')
      .option('--target <host:port>', 'new target')
      .option('--label <name=value>', 'may be repeated', collectLabel, {})
      .option('--if-version <n>', 'only when the connection is at this version', parseVersion),
  ).action(async (name: string, options: WriteOptions & { ifVersion?: number }, command: Command) => {
    const output = outputOf(command);
    const body = {
      ...(options.target === undefined ? {} : { target: parseHostPort(options.target) }),
      ...(Object.keys(options.label).length === 0 ? {} : { labels: options.label }),
    };
    const row = await adminClientOf(command).patch<ConnectionView>(pathOf(name), body, options.ifVersion);
    output.document(row);
    output.line(`${row.name} -> ${formatHostPort(row.target)}; version ${row.version}`);
  });

  adminOptions(
    group
      .command('delete <name>')
      .description(
        'delete a connection: its keys are revoked, its streams end; exits 1 while a node or agent is pending',
      ),
  ).action(async (name: string, _options: object, command: Command) => {
    const output = outputOf(command);
    const gone = await adminClientOf(command).delete<{
      name: string;
      revoked_keys: number;
      enforcement: EnforcementView;
    }>(pathOf(name));
    output.document(gone);
    showEnforcement(
      output,
      `deleted ${gone.name}; ${counted(gone.revoked_keys, 'key')} revoked`,
      gone.enforcement,
    );
  });
};
