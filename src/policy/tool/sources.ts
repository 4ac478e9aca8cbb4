import { readdirSync, readFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import { AppError, reasonOf } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';

/** The policy root inside a policy directory; what lies beside it never reaches a bundle. */
export const POLICY_ROOT = 'sallyport';

/** What `opa` is told to leave out, everywhere: tests would become entrypoints and pull builtins in. */
export const IGNORED = [
  '*_test.rego',
  'vectors',
  'schemas',
  'dist',
  'examples',
  'capabilities.json',
] as const;
export const IGNORE_ARGS: readonly string[] = IGNORED.flatMap((pattern) => ['--ignore', pattern]);
/** The same where tests are wanted. */
export const IGNORE_BUT_TESTS: readonly string[] = IGNORED.filter((name) => name !== '*_test.rego').flatMap(
  (pattern) => ['--ignore', pattern],
);

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
      `'${directory}' cannot be read as a policy directory: ${reasonOf(cause)}`,
      { cause },
    );
  }
};

/** Names of folders that OPA is told to leave out. */
export const IGNORED_FOLDERS: ReadonlySet<string> = new Set(IGNORED.filter((name) => !name.includes('.')));

/** Tests never reach a bundle. */
export const isTestFile = (name: string): boolean => name.endsWith('_test.rego');

/** OPA leaves a file out when any folder on its path has an ignored name. */
const isIgnored = (name: string): boolean =>
  name
    .split('/')
    .slice(0, -1)
    .some((folder) => IGNORED_FOLDERS.has(folder));

/** The Rego files that OPA loads, tests included, wherever they stand: their packages decide what they are. */
export const regoFiles = (directory: string): string[] =>
  listFiles(directory).filter((name) => name.endsWith('.rego') && !isIgnored(name));

/** Rego files inside the policy root that OPA leaves out because of a folder's name. */
export const ignoredRegoFiles = (directory: string): string[] =>
  listFiles(directory).filter(
    (name) => name.startsWith(`${POLICY_ROOT}/`) && name.endsWith('.rego') && isIgnored(name),
  );

export const readLines = (directory: string, name: string): string[] =>
  readFileSync(join(directory, name), 'utf8').split('\n');
