import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { randomBytes } from './random.ts';

/** Mode of files that hold secrets or state: the owner alone. */
export const PRIVATE_FILE_MODE = 0o600;
export const PRIVATE_DIRECTORY_MODE = 0o700;

/** Makes a directory, and what leads to it, for the owner alone. */
export const makePrivateDirectory = (path: string): void => {
  mkdirSync(path, { recursive: true, mode: PRIVATE_DIRECTORY_MODE });
};

/** Makes names created in or renamed into a directory survive a power cut. */
export const syncDirectory = (path: string): void => {
  const directory = openSync(path, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
};

/** Replaces a file in one step: readers see the old bytes or the new ones, never half. Durable on return. */
export const writeFileAtomically = (
  path: string,
  content: string | Uint8Array,
  mode: number = PRIVATE_FILE_MODE,
): void => {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  const file = openSync(temporary, 'wx', mode);
  try {
    writeFileSync(file, content);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
  syncDirectory(dirname(path));
};
