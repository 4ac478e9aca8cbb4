import type { Command } from 'commander';
import type { DisclosedKeyView, KeyView, RevokeView } from '../../control/index.ts';
import { keyIdOf, parseConnectionString } from '../../identity/index.ts';
import { AppError, EXIT, isAppError } from '../../runtime/index.ts';
import { counted, type Output, outputOf } from '../output.ts';
import { adminClientOf, type AdminClient, adminOptions } from './admin-client.ts';
import { showCut, showEnforcement } from './enforcement.ts';
import type { ManageErrorCode } from './errors.ts';
import { checkOutput, giveKeys, keyDocument, OUTPUT_HELP, OUTPUT_OPTION } from './secret-file.ts';
import { parseAuthRule, parseDuration, parseVersion, readStandardInput } from './words.ts';

interface KeyUsageView {
  readonly key_id: string;
  readonly connection: string | null;
  readonly auth_rule: string;
  readonly slot: string;
  readonly last_used_at: string;
  readonly use_count: number;
  readonly live_streams: number;
  readonly sources: readonly { readonly source: string; readonly last_used_at: string }[];
}

interface RotateOptions {
  readonly slot: string;
  readonly retireAfter?: string;
  readonly ifVersion?: number;
  readonly output?: string;
}

interface RevokeOptions {
  readonly authRule?: string;
  readonly slot?: string;
  readonly dryRun?: boolean;
  readonly reason?: string;
}

const showKeyRows = (output: Output, rows: readonly KeyView[]): void =>
  output.table(rows, [
    { title: 'key id', value: (row) => row.key_id },
    { title: 'auth-rule', value: (row) => `${row.connection ?? 'namespace'}/${row.auth_rule}` },
    { title: 'slot', value: (row) => row.slot },
    { title: 'claims', value: (row) => row.claims.join(',') },
    {
      title: 'state',
      value: (row) => (row.retire_at === null ? row.state : `${row.state} ${row.retire_at}`),
    },
    { title: 'last used', value: (row) => row.last_used_at },
  ]);

const showRevocation = (output: Output, result: RevokeView): void => {
  if (result.dry_run === true)
    output.line(`would revoke ${result.key_id}: ${showCut(result)}, on ${counted(result.nodes, 'node')}`);
  else showEnforcement(output, `revoked ${result.key_id}`, result);
};

/** The active key of `--auth-rule` and `--slot`. @throws AppError ERR_MANAGE_USAGE, ERR_MANAGE_REFUSED */
const keyOfSlot = async (client: AdminClient, options: RevokeOptions, output: Output): Promise<string> => {
  if (options.authRule === undefined || options.slot === undefined)
    throw new AppError<ManageErrorCode>(
      'ERR_MANAGE_USAGE',
      'give a key id, or --auth-rule CONNECTION/NAME and --slot',
    );
  const { scope, name } = parseAuthRule(options.authRule);
  const keys = await client.list<KeyView>('/keys', { scope, auth_rule: name, slot: options.slot });
  for (const key of keys)
    if (key.state === 'retiring')
      output.note(`${key.key_id} of this slot goes on until ${key.retire_at ?? '?'}`);
  const active = keys.find((key) => key.state === 'active');
  if (active !== undefined) return active.key_id;
  throw new AppError<ManageErrorCode>(
    'ERR_MANAGE_REFUSED',
    `${options.authRule} has no active ${options.slot} key`,
  );
};

/** Key id of a key text or a connection string. */
const keyIdOfText = (text: string): string => {
  const trimmed = text.trim();
  if (trimmed === '')
    throw new AppError<ManageErrorCode>(
      'ERR_MANAGE_USAGE',
      'standard input holds no key and no connection string',
    );
  return keyIdOf(/SharedAccessKey\s*=/i.test(trimmed) ? parseConnectionString(trimmed).key : trimmed);
};

/** `key list|rotate|revoke|usage|find|disclose`. */
export const keyCommands = (program: Command): void => {
  const group = program
    .command('key')
    .description('Keys, known by their public ids. Connects to: the management API.');

  adminOptions(
    group
      .command('list')
      .description('every key, without its text')
      .option('--connection <name>', 'of one connection; "namespace" for the namespace\'s own'),
  ).action(async (options: { connection?: string }, command: Command) => {
    const output = outputOf(command);
    const rows = await adminClientOf(command).list<KeyView>('/keys', { scope: options.connection });
    output.document(rows);
    showKeyRows(output, rows);
  });

  adminOptions(
    group
      .command('rotate <auth-rule>')
      .description('put a new key into a slot of CONNECTION/NAME; prints its connection string, this once')
      .requiredOption('--slot <slot>', 'primary or secondary')
      .option('--retire-after <time>', 'how long the old key goes on, e.g. 24h; default: not at all')
      .option('--if-version <n>', 'only when the auth-rule is still at this version', parseVersion)
      .option(OUTPUT_OPTION, OUTPUT_HELP),
  ).action(async (text: string, options: RotateOptions, command: Command) => {
    const output = outputOf(command);
    checkOutput(options.output);
    const retireAfter = options.retireAfter === undefined ? 0 : parseDuration(options.retireAfter);
    const made = await adminClientOf(command).post<{
      key: DisclosedKeyView;
      replaced: { key_id: string; retire_at: string; enforcement: RevokeView | null } | null;
    }>(
      `${parseAuthRule(text).path}/rotate`,
      { slot: options.slot, retire_after_seconds: retireAfter },
      options.ifVersion,
    );
    output.document({ ...made, key: keyDocument(made.key, options.output) });
    giveKeys(output, [made.key], options.output);
    if (options.output === undefined) output.note('this key is not shown again');
    if (made.replaced === null) return;
    if (made.replaced.enforcement === null)
      output.line(`${made.replaced.key_id} goes on until ${made.replaced.retire_at}`);
    else showRevocation(output, made.replaced.enforcement);
  });

  adminOptions(
    group
      .command('revoke [key-id]')
      .description('revoke a key for ever, on every node; exits 1 while a node or agent is pending')
      .option('--auth-rule <rule>', 'CONNECTION/NAME, instead of a key id')
      .option('--slot <slot>', 'primary or secondary, with --auth-rule')
      .option('--dry-run', 'only tell what it would cut')
      .option('--reason <text>', 'kept with the revocation and in the audit trail'),
  ).action(async (keyId: string | undefined, options: RevokeOptions, command: Command) => {
    const output = outputOf(command);
    const client = adminClientOf(command);
    const id = keyId ?? (await keyOfSlot(client, options, output));
    const result = await client.post<RevokeView>(`/keys/${encodeURIComponent(id)}/revoke`, {
      reason: options.reason ?? '',
      dry_run: options.dryRun === true,
    });
    output.document(result);
    showRevocation(output, result);
  });

  adminOptions(
    group
      .command('usage [key-id]')
      .summary('logins by each key, and open streams; also of keys that are gone')
      .description(
        'Who logs in by which key, from where, and the streams that are open by it now; also of keys that are gone. A login is ' +
          'counted when a gateway or agent shows the key, and again at each renewal of its token; streams that have ended are ' +
          'not: the view audit.key_usage of the audit database counts those.',
      )
      .option('--connection <name>', 'of one connection'),
  ).action(async (keyId: string | undefined, options: { connection?: string }, command: Command) => {
    const output = outputOf(command);
    const query = { key_id: keyId, connection: options.connection };
    const items = (await adminClientOf(command).list<KeyUsageView>('/key-usage', query)).sort(
      (left, right) => (left.last_used_at > right.last_used_at ? -1 : 1),
    );
    output.document(items);
    output.table(items, [
      { title: 'key id', value: (row) => row.key_id },
      { title: 'auth-rule', value: (row) => `${row.connection ?? 'namespace'}/${row.auth_rule}` },
      { title: 'slot', value: (row) => row.slot },
      { title: 'last login', value: (row) => row.last_used_at },
      { title: 'logins', value: (row) => row.use_count, align: 'right' },
      { title: 'open streams', value: (row) => row.live_streams, align: 'right' },
      { title: 'sources', value: (row) => row.sources.map((one) => one.source || '-').join(',') },
    ]);
  });

  adminOptions(
    group.command('find').description('tell the id of a key or connection string read from standard input'),
  ).action(async (_options: object, command: Command) => {
    const output = outputOf(command);
    const keyId = keyIdOfText(readStandardInput());
    try {
      const row = await adminClientOf(command).get<KeyView>(`/keys/${keyId}`);
      output.document(row);
      showKeyRows(output, [row]);
    } catch (error) {
      if (!isAppError(error, 'ERR_MANAGE_REFUSED')) throw error;
      output.document({ key_id: keyId, state: 'unknown' });
      output.line(`${keyId} is no key of this namespace`);
      output.exitWith(EXIT.notSo);
    }
  });

  adminOptions(
    group
      .command('disclose <key-id>')
      .description('show the text of a key; needs an owner token and is audited')
      .option('--reason <text>', 'kept in the audit trail')
      .option(OUTPUT_OPTION, OUTPUT_HELP),
  ).action(async (keyId: string, options: { reason?: string; output?: string }, command: Command) => {
    const output = outputOf(command);
    checkOutput(options.output);
    const path = `/keys/${encodeURIComponent(keyId)}/disclose`;
    const key = await adminClientOf(command).post<DisclosedKeyView>(path, { reason: options.reason ?? '' });
    output.document(keyDocument(key, options.output));
    giveKeys(output, [key], options.output);
  });
};
