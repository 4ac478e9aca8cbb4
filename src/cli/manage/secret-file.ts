import { accessSync, constants, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { DisclosedKeyView } from '../../control/index.ts';
import { AppError, foreignCodeOf, messageOf, writeFileAtomically } from '../../runtime/index.ts';
import type { Output } from '../output.ts';
import type { ManageErrorCode } from './errors.ts';
import { showKeys } from './words.ts';

/** The option of every command that makes or shows a key. */
export const OUTPUT_OPTION = '-o, --output <file>';
export const OUTPUT_HELP =
  'write its connection string there (0600), replacing what is there, and show no key; default: stdout';

/** What is said of a key that went into a file: everything but its text. */
type KeptKeyView = Omit<DisclosedKeyView, 'key' | 'connection_string'>;

/** What `--json` says of a key: its text only where no file takes it. */
export const keyDocument = (key: DisclosedKeyView, file: string | undefined): KeptKeyView => {
  if (file === undefined) return key;
  const { key_id, connection, auth_rule, slot } = key;
  return { key_id, connection, auth_rule, slot };
};

const cannotWrite = (file: string, error: unknown, more = ''): AppError<ManageErrorCode> =>
  new AppError(
    'ERR_MANAGE_USAGE',
    `-o ${file} cannot be written: ${foreignCodeOf(error) ?? messageOf(error)}${more}`,
    {
      cause: error,
    },
  );

/**
 * Asked before a key is made, so that none is made that cannot be put anywhere.
 * @throws AppError ERR_MANAGE_USAGE when the directory is not there or not writable, or the name is that of a directory
 */
export const checkOutput = (file: string | undefined): void => {
  if (file === undefined) return;
  const path = resolve(file);
  try {
    accessSync(dirname(path), constants.W_OK | constants.X_OK);
  } catch (error) {
    throw cannotWrite(path, error);
  }
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true)
    throw cannotWrite(path, 'it is a directory');
};

/**
 * Shows keys, or puts the first one's connection string into a file, as agent.yaml and gateway.yaml take it, and shows the
 * ids.
 * @throws AppError ERR_MANAGE_USAGE when the file cannot be written
 */
export const giveKeys = (
  output: Output,
  keys: readonly DisclosedKeyView[],
  file: string | undefined,
): void => {
  const [first] = keys;
  if (file === undefined || first === undefined) {
    showKeys(output, keys);
    return;
  }
  const path = resolve(file);
  try {
    writeFileAtomically(path, `${first.connection_string}\n`);
  } catch (error) {
    throw cannotWrite(
      path,
      error,
      `; the key is there all the same: \`key disclose ${first.key_id} -o FILE\``,
    );
  }
  for (const key of keys) {
    const place = key === first ? path : `not shown: \`key disclose ${key.key_id} -o FILE\``;
    output.line(`${key.connection ?? 'namespace'}/${key.auth_rule} ${key.slot} ${key.key_id}  ${place}`);
  }
};
