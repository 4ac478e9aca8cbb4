import { accessSync, constants, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { AuthRuleView, ConnectionView, DisclosedKeyView } from '../../control/index.ts';
import {
  AppError,
  EXIT,
  foreignCodeOf,
  isAppError,
  messageOf,
  PRIVATE_DIRECTORY_MODE,
  readConfig,
  writeFileAtomically,
} from '../../runtime/index.ts';
import { counted, type Output, outputOf } from '../output.ts';
import { type AdminClient, adminClientOf, adminOptions } from './admin-client.ts';
import { type Change, declarationSchema, planOf } from './apply-plan.ts';
import type { ManageErrorCode } from './errors.ts';

interface ApplyOptions {
  readonly file: string;
  readonly dryRun?: boolean;
  readonly prune?: boolean;
  readonly keysDir?: string;
}

const SIGN: Readonly<Record<Change['kind'], string>> = { create: '+', update: '~', delete: '-' };
const WORD: Readonly<Record<Change['what'], string>> = { connection: 'connection', auth_rule: 'auth-rule' };

const lineOf = ({ kind, what, name, detail }: Change): string =>
  `${SIGN[kind]} ${WORD[what]} ${name}  ${detail}`;

const shown = ({ kind, what, name, detail }: Change): object => ({ kind, what, name, detail });

const perform = async (client: AdminClient, { call }: Change): Promise<readonly DisclosedKeyView[]> => {
  if (call.method === 'delete') {
    await client.delete(call.path);
    return [];
  }
  if (call.method === 'patch') {
    await client.patch(call.path, call.body ?? {}, call.ifMatch);
    return [];
  }
  return (await client.post<{ keys: DisclosedKeyView[] }>(call.path, call.body)).keys;
};

/** Keys are shown once: that they can be written is known before the first is made. */
const openKeysDirectory = (directory: string): void => {
  try {
    mkdirSync(directory, { recursive: true, mode: PRIVATE_DIRECTORY_MODE });
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    const message = `--keys-dir ${directory} cannot be written: ${foreignCodeOf(error) ?? messageOf(error)}`;
    throw new AppError<ManageErrorCode>('ERR_MANAGE_USAGE', message, { cause: error });
  }
};

/** Writes each new key's connection string into a file of its own, for the owner alone. */
const writeKeys = (directory: string, keys: readonly DisclosedKeyView[]): void => {
  for (const key of keys) {
    const name = `${key.connection ?? 'namespace'}.${key.auth_rule}.${key.slot}`.replaceAll(/[^\w.-]/g, '_');
    writeFileAtomically(join(directory, name), `${key.connection_string}\n`);
  }
};

const applyAll = async (
  client: AdminClient,
  changes: readonly Change[],
  keysDirectory: string | undefined,
  output: Output,
): Promise<void> => {
  for (const [done, change] of changes.entries()) {
    let isMade = false;
    try {
      const keys = await perform(client, change);
      isMade = true;
      if (keysDirectory !== undefined) writeKeys(keysDirectory, keys);
      output.line(lineOf(change));
    } catch (error) {
      output.document({
        applied: false,
        changes: changes.slice(0, isMade ? done + 1 : done).map(shown),
        failed: shown(change),
        conflicts: [],
      });
      throw new AppError(
        isAppError(error) ? error.code : ('ERR_MANAGE_REFUSED' satisfies ManageErrorCode),
        `${isMade ? done + 1 : done} of ${counted(changes.length, 'change was', 'changes were')} made; ${lineOf(change).trim()}: ${messageOf(error)}. Run it again when the cause is gone`,
        { cause: error },
      );
    }
  }
};

/** `apply -f FILE`. */
export const applyCommand = (program: Command): void => {
  adminOptions(
    program
      .command('apply')
      .summary('make connections and auth-rules as a file says')
      .description(
        'Compares a YAML file of connections, their labels and auth-rules, and auth-rules of the namespace, with the namespace, shows the difference and makes ' +
          'it so, one audited change after another; running it again changes nothing. Keys are never in the file: new ' +
          'ones go to --keys-dir. Connects to: the management API.',
      )
      .requiredOption(
        '-f, --file <file>',
        'connections: [{name, target, labels, auth_rules: [{name, claims}]}], auth_rules: those of the namespace',
      )
      .option('--dry-run', 'only show the difference; exit 1 when there is one')
      .option('--prune', 'also delete connections and auth-rules that the file does not name')
      .option('--keys-dir <dir>', 'write the connection strings of new keys there, a file each'),
  ).action(async (options: ApplyOptions, command: Command) => {
    const output = outputOf(command);
    const declared = await readConfig(options.file, declarationSchema, { environment: {} });
    const client = adminClientOf(command);
    const [connections, authRules] = await Promise.all([
      client.list<ConnectionView>('/connections'),
      client.list<AuthRuleView>('/auth-rules'),
    ]);
    const { changes, conflicts } = planOf(declared, { connections, authRules }, options.prune === true);
    const isDone = options.dryRun !== true && conflicts.length === 0;
    if (isDone && options.keysDir !== undefined) openKeysDirectory(options.keysDir);
    if (isDone) await applyAll(client, changes, options.keysDir, output);
    else for (const change of changes) output.line(lineOf(change));
    for (const conflict of conflicts) output.line(`! ${conflict}`);
    output.document({
      applied: isDone,
      changes: changes.map(shown),
      conflicts,
    });
    if (changes.length === 0 && conflicts.length === 0) output.line('nothing to change');
    const made = changes.some(({ kind }) => kind === 'create');
    if (isDone && made && options.keysDir === undefined) {
      output.note(
        'new keys were not shown: rotate a slot (key rotate) to get one, or use --keys-dir next time',
      );
    }
    if (conflicts.length > 0 || (options.dryRun === true && changes.length > 0)) output.exitWith(EXIT.notSo);
  });
};
