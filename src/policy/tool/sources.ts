import { readdirSync, readFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import { AppError, messageOf } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';

/** The policy root inside a policy directory; what lies beside it never reaches a bundle. */
export const POLICY_ROOT = 'sallyport';

/** What `opa` is told to leave out, everywhere: tests would become entrypoints and pull builtins in. */
export const IGNORED = ['*_test.rego', 'vectors', 'schemas', 'dist', 'capabilities.json'] as const;
export const IGNORE_ARGS: readonly string[] = IGNORED.flatMap((pattern) => ['--ignore', pattern]);

/** Files under a directory by relative path with forward slashes, sorted. @throws AppError ERR_POLICY_SOURCE */
export const listFiles = (directory: string): string[] => {
  try {
    return readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
      .map((name) => name.split(sep).join('/'))
      .sort();
  } catch (cause) {
    throw new AppError<PolicyErrorCode>(
      'ERR_POLICY_SOURCE',
      `'${directory}' cannot be read as a policy directory: ${messageOf(cause)}`,
      { cause },
    );
  }
};

/** The Rego files of the policy root, without tests. */
export const regoFiles = (directory: string): string[] =>
  listFiles(directory).filter((name) => name.startsWith(`${POLICY_ROOT}/`) && name.endsWith('.rego'));

export const readLines = (directory: string, name: string): string[] =>
  readFileSync(join(directory, name), 'utf8').split('\n');
