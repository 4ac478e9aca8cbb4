import type { Command } from 'commander';
import type { AuthRuleView, DisclosedKeyView, EnforcementView } from '../../control/index.ts';
import { counted, outputOf } from '../output.ts';
import { adminClientOf, adminOptions } from './admin-client.ts';
import { showEnforcement } from './enforcement.ts';
import { checkOutput, giveKeys, keyDocument, OUTPUT_OPTION } from './secret-file.ts';
import { parseAuthRule, parseVersion } from './words.ts';

/** `auth-rule list|create|delete`. */
export const authRuleCommands = (program: Command): void => {
  const group = program
    .command('auth-rule')
    .description(
      'SAS authorization rules of connections and of the namespace. Connects to: the management API.',
    );

  adminOptions(
    group
      .command('list')
      .description('every auth-rule')
      .option('--connection <name>', 'of one connection; "namespace" for the namespace\'s own'),
  ).action(async (options: { connection?: string }, command: Command) => {
    const output = outputOf(command);
    const rows = await adminClientOf(command).list<AuthRuleView>('/auth-rules', {
      scope: options.connection,
    });
    output.document(rows);
    output.table(rows, [
      { title: 'auth-rule', value: (row) => `${row.connection ?? 'namespace'}/${row.name}` },
      { title: 'claims', value: (row) => row.claims.join(',') },
      { title: 'version', value: (row) => row.version, align: 'right' },
      { title: 'created', value: (row) => row.created_at },
    ]);
  });

  adminOptions(
    group
      .command('create <auth-rule>')
      .description(
        'a new auth-rule CONNECTION/NAME or namespace/NAME; prints its connection strings, this once',
      )
      .requiredOption('--claims <list>', 'out of Listen,Send,Manage')
      .option(
        OUTPUT_OPTION,
        'write the connection string of its primary key there (0600), replacing what is there, and show no key; default: stdout',
      ),
  ).action(async (text: string, options: { claims: string; output?: string }, command: Command) => {
    const output = outputOf(command);
    checkOutput(options.output);
    const { scope, name } = parseAuthRule(text);
    const claims = options.claims.split(',').map((claim) => claim.trim());
    const made = await adminClientOf(command).post<AuthRuleView & { keys: DisclosedKeyView[] }>(
      '/auth-rules',
      {
        scope,
        name,
        claims,
      },
    );
    output.document({ ...made, keys: made.keys.map((key) => keyDocument(key, options.output)) });
    giveKeys(output, made.keys, options.output);
    if (options.output === undefined) output.note('these keys are not shown again');
  });

  adminOptions(
    group
      .command('delete <auth-rule>')
      .description(
        'remove an auth-rule: its keys are revoked, its streams end; exits 1 while a node or agent is pending',
      )
      .option('--if-version <n>', 'only when it is still at this version', parseVersion),
  ).action(async (text: string, options: { ifVersion?: number }, command: Command) => {
    const output = outputOf(command);
    const gone = await adminClientOf(command).delete<{
      revoked_keys: number;
      enforcement: EnforcementView;
    }>(parseAuthRule(text).path, options.ifVersion);
    output.document(gone);
    showEnforcement(
      output,
      `removed ${text}; ${counted(gone.revoked_keys, 'key')} revoked`,
      gone.enforcement,
    );
  });
};
