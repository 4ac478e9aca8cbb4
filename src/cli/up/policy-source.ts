import { createHash } from 'node:crypto';
import { accessSync, constants, type FSWatcher, readdirSync, readFileSync, watch } from 'node:fs';
import { join, resolve } from 'node:path';
import { buildBundle, developmentBundle, type DevelopmentConnection } from '../../policy/index.ts';
import {
  AppError,
  type Clock,
  foreignCodeOf,
  messageOf,
  type Timer,
  writeFileAtomically,
} from '../../runtime/index.ts';
import { packageRoot } from '../version.ts';
import type { PolicyChoice } from './options.ts';

/** An editor writes a file in several steps; what follows within this time is one change. */
const SETTLE_MS = 150;

export interface PolicySource {
  /** The bundle that the agent watches. */
  readonly bundleFile: string;
  close(): void;
}

export interface PolicySourceOptions {
  readonly choice: PolicyChoice;
  /** Where a generated or compiled bundle is put. */
  readonly bundleFile: string;
  readonly connections: readonly DevelopmentConnection[];
  readonly forbidden: readonly string[];
  /** The sequence and content digest of the bundle before this one. */
  readonly before: { readonly sequence: number; readonly digest: string };
  readonly clock: Clock;
  readonly onBuilt: (built: { sequence: number; digest: string }) => void;
  readonly note: (text: string) => void;
}

const generate = (options: PolicySourceOptions): PolicySource => {
  const defaultBundle = readFileSync(new URL('policies/dist/default.tar.gz', packageRoot));
  const digest = createHash('sha256')
    .update(defaultBundle)
    .update(JSON.stringify([options.connections, options.forbidden]))
    .digest('hex');
  const sequence = options.before.sequence + (digest === options.before.digest ? 0 : 1);
  const bundle = developmentBundle(defaultBundle, options.connections, {
    sequence,
    forbidden: options.forbidden,
  });
  writeFileAtomically(options.bundleFile, bundle);
  options.onBuilt({ sequence, digest });
  return { bundleFile: options.bundleFile, close: () => undefined };
};

/**
 * Watches a directory and all below it. Each directory is watched by itself: editors replace files, and a watch of
 * the replaced file (Node's recursive watch on Linux) would see nothing more.
 */
const watchTree = (root: string, onChange: (error?: Error) => void): { close(): void } => {
  const watchers = new Map<string, FSWatcher>();
  const close = (directory: string): void => {
    watchers.get(directory)?.close();
    watchers.delete(directory);
  };
  const scan = (): void => {
    const entries = readdirSync(root, { recursive: true, withFileTypes: true });
    const found = new Set([
      root,
      ...entries.filter((entry) => entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name)),
    ]);
    for (const directory of watchers.keys()) if (!found.has(directory)) close(directory);
    for (const directory of found) {
      if (watchers.has(directory)) continue;
      const watcher = watch(directory, () => {
        try {
          scan();
          onChange();
        } catch (error) {
          onChange(error as Error);
        }
      });
      watcher.on('error', () => close(directory));
      watchers.set(directory, watcher);
    }
  };
  scan();
  return {
    close() {
      for (const directory of [...watchers.keys()]) close(directory);
    },
  };
};

/** Compiles a directory now and after each change; a version that does not compile changes nothing. */
const compile = async (options: PolicySourceOptions, directory: string): Promise<PolicySource> => {
  const { bundleFile, clock, note } = options;
  let sequence = options.before.sequence;
  const build = async (): Promise<void> => {
    await buildBundle(directory, bundleFile, { sequence: sequence + 1 });
    sequence += 1;
    options.onBuilt({ sequence, digest: '' });
  };
  await build();
  let settling: Timer | undefined;
  let building = Promise.resolve();
  const rebuild = (): void => {
    building = building.then(build).then(
      () => note(`policy: ${directory} compiled, sequence ${sequence}`),
      (error: unknown) =>
        note(`policy: ${directory} does not compile, the old one stays: ${messageOf(error)}`),
    );
  };
  const watching = watchTree(directory, (error) => {
    if (error !== undefined) note(`policy: ${directory} is not watched any more: ${messageOf(error)}`);
    settling?.cancel();
    settling = clock.after(SETTLE_MS, rebuild);
  });
  return {
    bundleFile,
    close() {
      settling?.cancel();
      watching.close();
    },
  };
};

const requireReadable = (file: string): string => {
  try {
    accessSync(file, constants.R_OK);
    return file;
  } catch (error) {
    throw new AppError('ERR_CLI_USAGE', `--bundle ${file} cannot be read: ${foreignCodeOf(error) ?? ''}`, {
      cause: error,
    });
  }
};

/** Provides the bundle of `up`: generated from its connections, compiled from a directory, or given. */
export const openPolicySource = async (options: PolicySourceOptions): Promise<PolicySource> => {
  switch (options.choice.kind) {
    case 'generated':
      return generate(options);
    case 'directory':
      return compile(options, resolve(options.choice.directory));
    case 'bundle':
      return { bundleFile: requireReadable(resolve(options.choice.file)), close: () => undefined };
  }
};
