import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from './clock.ts';
import { AppError, type ErrorCode, foreignCodeOf } from './errors.ts';
import { writeFileAtomically } from './files.ts';
import { randomBytes, uuidv7 } from './random.ts';

const FILE_NAME = 'instance.json';
const SECRET_BYTES = 32;

/** Who this installation is to the relay: only the holder of the secret replaces its lost login. */
export interface Instance {
  readonly instance: string;
  readonly secret: string;
}

const isInstance = (value: unknown): value is Instance => {
  const { instance, secret } = (value ?? {}) as Partial<Record<keyof Instance, unknown>>;
  return (
    typeof instance === 'string' &&
    instance !== '' &&
    typeof secret === 'string' &&
    secret.length >= SECRET_BYTES
  );
};

/**
 * Reads or makes the instance of a state directory, so that a process started again after a crash takes over its
 * own login at once.
 * @param code of the error when the file cannot be used; each process has its own
 * @throws AppError with that code
 */
export const openInstance = (stateDir: string, clock: Clock, code: ErrorCode): Instance => {
  const path = join(stateDir, FILE_NAME);
  let text: string | undefined;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (foreignCodeOf(error) !== 'ENOENT') throw unusable(code, path, error);
  }
  try {
    if (text !== undefined) {
      const kept: unknown = JSON.parse(text);
      if (!isInstance(kept)) throw new Error('no instance and secret in it');
      return kept;
    }
    const made: Instance = { instance: uuidv7(clock), secret: randomBytes(SECRET_BYTES).toString('hex') };
    writeFileAtomically(path, `${JSON.stringify(made)}\n`);
    return made;
  } catch (error) {
    throw unusable(code, path, error);
  }
};

const unusable = (code: ErrorCode, path: string, cause: unknown): AppError =>
  new AppError(
    code,
    `${path} cannot be used (${foreignCodeOf(cause) ?? 'not the expected form'}): remove it to begin as a new instance`,
    { cause },
  );
