import type { Command } from 'commander';
import type { TokenView } from '../../control/index.ts';
import { readConfig, silentLogger, systemClock } from '../../runtime/index.ts';
import { outputOf } from '../output.ts';
import { adminClientOf, adminOptions } from './admin-client.ts';
import { parseDuration } from './words.ts';

const stateOf = (token: TokenView): string => {
  if (token.revoked_at !== null)
    return `${token.one_time ? 'used or revoked' : 'revoked'} ${token.revoked_at}`;
  return token.one_time ? 'one-time code' : 'good';
};

const makeOwnerCode = async (file: string): Promise<{ id: string; code: string; expires_at: string }> => {
  const [{ relayConfigSchema }, { openControl }] = await Promise.all([
    import('../../relay/index.ts'),
    import('../../control/index.ts'),
  ]);
  const config = await readConfig(file, relayConfigSchema);
  const control = await openControl({
    databaseUrl: config.control.database_url,
    keyring: config.control.keyring_file,
    namespace: config.namespace,
    node: config.node,
    clock: systemClock,
    logger: silentLogger,
  });
  try {
    const { id, code, expiresAt } = await control.ensureOwnerCode();
    return { id, code, expires_at: expiresAt.toISOString() };
  } finally {
    await control.close();
  }
};

const ownerCodeCommand = (group: Command): void => {
  group
    .command('owner-code')
    .summary('a one-time owner code, when no token is left')
    .description(
      'Prints a code that the first use exchanges for an owner token; good for 24 h. Unused earlier ones end. ' +
        'Put it into a file (0600) and give that as --token-file: the token takes its place. ' +
        'Connects to: the control database of relay.yaml.',
    )
    .requiredOption('-c, --config <file>', 'relay.yaml of a node')
    .action(async (options: { config: string }, command: Command) => {
      const output = outputOf(command);
      const made = await makeOwnerCode(options.config);
      output.document(made);
      output.line(made.code);
      output.note(`good for one exchange until ${made.expires_at}; it is not shown again`);
    });
};

/** `token create|list|revoke`. */
export const tokenCommands = (program: Command): void => {
  const group = program
    .command('token')
    .description('Tokens of the management API; needs an owner token. Connects to: the management API.');

  adminOptions(
    group
      .command('create <label>')
      .description('a new token; printed this once')
      .requiredOption(
        '--role <role>',
        'auditor (reads), operator (changes) or owner (also discloses, makes tokens)',
      )
      .option('--expires-after <time>', 'e.g. 30d; default: never'),
  ).action(async (label: string, options: { role: string; expiresAfter?: string }, command: Command) => {
    const output = outputOf(command);
    const made = await adminClientOf(command).post<TokenView & { token: string }>('/tokens', {
      label,
      role: options.role,
      ...(options.expiresAfter === undefined
        ? {}
        : { expires_after_seconds: parseDuration(options.expiresAfter) }),
    });
    output.document(made);
    output.line(made.token);
    output.note(`token ${made.id} (${made.role}); it is not shown again`);
  });

  ownerCodeCommand(group);

  adminOptions(group.command('list').description('every token, without its text')).action(
    async (_options: object, command: Command) => {
      const output = outputOf(command);
      const rows = await adminClientOf(command).list<TokenView>('/tokens');
      output.document(rows);
      output.table(rows, [
        { title: 'id', value: (row) => row.id },
        { title: 'label', value: (row) => row.label },
        { title: 'role', value: (row) => row.role },
        { title: 'state', value: stateOf },
        { title: 'expires', value: (row) => row.expires_at },
        { title: 'last used', value: (row) => row.last_used_at },
      ]);
    },
  );

  adminOptions(group.command('revoke <id>').description('end a token at once')).action(
    async (id: string, _options: object, command: Command) => {
      const output = outputOf(command);
      const row = await adminClientOf(command).post<TokenView>(`/tokens/${encodeURIComponent(id)}/revoke`);
      output.document(row);
      output.line(`${row.id} ${stateOf(row)}`);
    },
  );
};
