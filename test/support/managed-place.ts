import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ManagedLocation } from '../../src/policy/index.ts';
import { type Closer, temporaryDirectory } from './temporary.ts';

/** The user who runs the tests: in production this is root. */
export const OWNER = process.getuid?.() ?? 0;

/** A place for managed settings of a test, as production has it at /etc/sallyport. */
export interface ManagedPlace {
  readonly directory: string;
  readonly location: ManagedLocation;
  /** Replaces the file in one step, as configuration management does. */
  put(text: string, mode?: number): void;
  /** Writes into the file that is there, as an editor may. */
  writeInPlace(text: string): void;
  remove(): void;
}

export const managedPlace = (t: Closer): ManagedPlace => {
  const directory = join(temporaryDirectory(t, 'managed'), 'sallyport');
  mkdirSync(directory, { mode: 0o755 });
  chmodSync(directory, 0o755);
  const path = join(directory, 'managed.yaml');
  return {
    directory,
    location: { path, owner: OWNER },
    put(text, mode = 0o644) {
      writeFileSync(`${path}.new`, text);
      chmodSync(`${path}.new`, mode);
      renameSync(`${path}.new`, path);
    },
    writeInPlace(text) {
      writeFileSync(path, text);
    },
    remove() {
      rmSync(path);
    },
  };
};
