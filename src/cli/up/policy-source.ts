import { createHash } from 'node:crypto';
import { type FSWatcher, readFileSync, watch } from 'node:fs';
import { resolve } from 'node:path';
import { buildBundle, developmentBundle, type DevelopmentConnection } from '../../policy/index.ts';
import { type Clock, messageOf, type Timer, writeFileAtomically } from '../../runtime/index.ts';
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
  const watcher: FSWatcher = watch(directory, { recursive: true }, () => {
    settling?.cancel();
    settling = clock.after(SETTLE_MS, rebuild);
  });
  watcher.on('error', (error) => note(`policy: ${directory} is no longer watched: ${messageOf(error)}`));
  return {
    bundleFile,
    close() {
      settling?.cancel();
      watcher.close();
    },
  };
};

/** Provides the bundle of `up`: generated from its connections, compiled from a directory, or given. */
export const openPolicySource = async (options: PolicySourceOptions): Promise<PolicySource> => {
  switch (options.choice.kind) {
    case 'generated':
      return generate(options);
    case 'directory':
      return compile(options, resolve(options.choice.directory));
    case 'bundle':
      return { bundleFile: resolve(options.choice.file), close: () => undefined };
  }
};
