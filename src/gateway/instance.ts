import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import {
  AppError,
  type Clock,
  foreignCodeOf,
  randomBytes,
  uuidv7,
  writeFileAtomically,
} from '../runtime/index.ts';
import type { GatewayErrorCode } from './errors.ts';

const FILE_NAME = 'instance.json';
const SECRET_BYTES = 32;

const instanceSchema = z.object({ instance: z.string().min(1), secret: z.string().min(SECRET_BYTES) });

/** Who this installation is to the relay: only the holder of the secret replaces its lost login. */
export type Instance = z.infer<typeof instanceSchema>;

/**
 * Reads or makes the instance of a state directory, so that a process started again after a crash takes over its
 * own login at once.
 * @throws AppError ERR_GATEWAY_STATE
 */
export const openInstance = (stateDir: string, clock: Clock): Instance => {
  const path = join(stateDir, FILE_NAME);
  let text: string | undefined;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (foreignCodeOf(error) !== 'ENOENT') throw unusable(path, error);
  }
  try {
    if (text !== undefined) return instanceSchema.parse(JSON.parse(text));
    const made: Instance = { instance: uuidv7(clock), secret: randomBytes(SECRET_BYTES).toString('hex') };
    writeFileAtomically(path, `${JSON.stringify(made)}\n`);
    return made;
  } catch (error) {
    throw unusable(path, error);
  }
};

const unusable = (path: string, cause: unknown): AppError<GatewayErrorCode> =>
  new AppError<GatewayErrorCode>(
    'ERR_GATEWAY_STATE',
    `${path} cannot be used (${foreignCodeOf(cause) ?? 'not the expected form'}): remove it to begin as a new instance`,
    { cause },
  );
