import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AppError } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';
import type { Proposal } from '../replay/propose.ts';
import { LIBRARY_FILES } from './library.ts';
import { EXAMPLE_POLICIES, SHIPPED_POLICIES } from './paths.ts';
import { fileStemOf } from './rego-name.ts';
import {
  CI_TEXT,
  GRANTS_TEXT,
  MANIFEST_TEXT,
  readmeOf,
  regoOf,
  type SkeletonConnection,
  testOf,
  vectorsOf,
} from './skeleton-files.ts';

/** What every policy directory has as it was shipped. */
const SHIPPED = [
  ...LIBRARY_FILES,
  'capabilities.json',
  'schemas',
  '.regal/config.yaml',
  'vectors/library.yaml',
];
const EXECUTABLE_MODE = 0o755;
/** What may be in a directory that counts as empty: a fresh repository. */
const TOLERATED: ReadonlySet<string> = new Set(['.git', '.gitignore', '.gitattributes', 'LICENSE']);

const requireEmpty = (directory: string): void => {
  const found = existsSync(directory)
    ? readdirSync(directory).find((name) => !TOLERATED.has(name))
    : undefined;
  if (found === undefined) return;
  throw new AppError<PolicyErrorCode>(
    'ERR_POLICY_SOURCE',
    `${join(directory, found)} is there already; nothing is overwritten, give an empty directory`,
  );
};

const writeShipped = (directory: string): void => {
  for (const name of SHIPPED)
    cpSync(join(SHIPPED_POLICIES, name), join(directory, name), { recursive: true });
};

const writeText = (directory: string, name: string, text: string): void => {
  const file = join(directory, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
};

/**
 * Writes a policy directory of proposed allow-lists, otherwise as `writePolicySkeleton`.
 * @throws AppError ERR_POLICY_SOURCE when something is in the directory already
 */
export const writeProposals = (directory: string, proposals: readonly Proposal[]): void => {
  requireEmpty(directory);
  writeShipped(directory);
  for (const { connection, rego, vectors } of proposals) {
    writeText(directory, `sallyport/allow/${fileStemOf(connection)}.rego`, rego);
    writeText(directory, `vectors/${connection}.yaml`, vectors);
  }
  writeText(directory, 'sallyport/grants/data.yaml', GRANTS_TEXT);
  writeCommon(
    directory,
    proposals.map(({ connection }) => connection),
  );
};

const writeCommon = (directory: string, connections: readonly string[]): void => {
  writeText(directory, '.manifest', MANIFEST_TEXT);
  writeText(directory, 'ci.sh', CI_TEXT);
  chmodSync(join(directory, 'ci.sh'), EXECUTABLE_MODE);
  writeText(directory, 'README.md', readmeOf(connections));
};

/**
 * Writes a new policy directory: the library as shipped and, for each connection, an allow-list with its tests and
 * vectors; grants without a grant, a CI recipe and a page of next steps. `policy check`, `policy test` and
 * `policy build` pass on it as it is.
 * @throws AppError ERR_POLICY_SOURCE when something is in the directory already
 */
export const writePolicySkeleton = (directory: string, connections: readonly SkeletonConnection[]): void => {
  requireEmpty(directory);
  writeShipped(directory);
  for (const connection of connections) {
    const stem = fileStemOf(connection.name);
    writeText(directory, `sallyport/allow/${stem}.rego`, regoOf(connection));
    writeText(directory, `sallyport/allow/${stem}_test.rego`, testOf(connection));
    writeText(directory, `vectors/${connection.name}.yaml`, vectorsOf(connection));
  }
  writeText(directory, 'sallyport/grants/data.yaml', GRANTS_TEXT);
  writeCommon(
    directory,
    connections.map(({ name }) => name),
  );
};

/** Names of the shipped allow-lists to start from. */
export const policyExamples = (): string[] => readdirSync(EXAMPLE_POLICIES).sort();

/**
 * Writes a new policy directory from a shipped example: the library, and the example's allow-list with its tests,
 * vectors and data. It passes as writePolicySkeleton's does.
 * @throws AppError ERR_POLICY_SOURCE for an unknown example, or when something is in the directory already
 */
export const writePolicyExample = (directory: string, example: string): void => {
  const known = policyExamples();
  if (!known.includes(example)) {
    throw new AppError<PolicyErrorCode>(
      'ERR_POLICY_SOURCE',
      `there is no example '${example}'; there are ${known.join(', ')}`,
    );
  }
  requireEmpty(directory);
  writeShipped(directory);
  writeCommon(directory, []);
  const source = join(EXAMPLE_POLICIES, example);
  const about = readFileSync(join(source, 'README.md'), 'utf8');
  cpSync(source, directory, { recursive: true });
  // The example says what it is, the page of every directory what to do with it.
  writeText(
    directory,
    'README.md',
    `${about}\n${readmeOf([])
      .replace(/^# Policy/, '## This directory')
      .replace('\n## Next', '\n### Next')}`,
  );
};
