import type { Command } from 'commander';
import type { TokenView } from '../../control/index.ts';
import { outputOf } from '../output.ts';
import { adminClientOf, adminOptions } from './admin-client.ts';
import { parseDuration } from './words.ts';

const stateOf = (token: TokenView): string =>
  token.revoked_at === null ? 'good' : `revoked ${token.revoked_at}`;

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
