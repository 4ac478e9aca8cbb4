import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError, type ErrorCode, foreignCodeOf, messageOf } from './errors.ts';
import { randomBytes } from './random.ts';

/** Mode of files that hold secrets or state: the owner alone. */
export const PRIVATE_FILE_MODE = 0o600;
export const PRIVATE_DIRECTORY_MODE = 0o700;

/** Makes a directory, and what leads to it, for the owner alone. */
export const makePrivateDirectory = (path: string): void => {
  mkdirSync(path, { recursive: true, mode: PRIVATE_DIRECTORY_MODE });
};

const NOT_ALLOWED: ReadonlySet<string> = new Set(['EACCES', 'EPERM']);

/** What to say of a `state_dir` that cannot be made or used. */
export const stateDirectoryError = (code: ErrorCode, path: string, cause: unknown): AppError => {
  const wayOn = NOT_ALLOWED.has(foreignCodeOf(cause) ?? '')
    ? '; run the process as the owner of that directory, or name another state_dir'
    : '';
  return new AppError(code, `state_dir ${path} cannot be used: ${messageOf(cause)}${wayOn}`, { cause });
};

/**
 * Makes the state directory of a process.
 * @param code of the error; each process has its own
 * @throws AppError with that code
 */
export const makeStateDirectory = (path: string, code: ErrorCode): void => {
  try {
    makePrivateDirectory(path);
  } catch (error) {
    throw stateDirectoryError(code, path, error);
  }
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

/** `writeFileAtomically` without holding up the thread. */
export const replaceFile = async (path: string, content: string): Promise<void> => {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  const file = await open(temporary, 'wx', PRIVATE_FILE_MODE);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
};
