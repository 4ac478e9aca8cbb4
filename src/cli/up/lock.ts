import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, foreignCodeOf, messageOf, PRIVATE_FILE_MODE, randomBytes } from '../../runtime/index.ts';
import { identityOf, isAlive, type ProcessIdentity } from './process-identity.ts';

const LOCK_NAME = 'lock';
/** Two starters may meet on a lock that a killed `up` left; each retries a few times, then says so. */
const ATTEMPTS = 5;

const readLock = (path: string): ProcessIdentity | undefined => {
  try {
    const found = JSON.parse(readFileSync(path, 'utf8')) as Partial<ProcessIdentity>;
    if (typeof found.pid !== 'number' || typeof found.started !== 'string') return undefined;
    return { pid: found.pid, started: found.started };
  } catch {
    return undefined;
  }
};

/** The `up` that holds this state, if one runs. */
export const lockHolder = (stateDirectory: string): ProcessIdentity | undefined => {
  const found = readLock(join(stateDirectory, LOCK_NAME));
  return found !== undefined && isAlive(found) ? found : undefined;
};

/**
 * Takes the state directory for this process alone, and returns how to give it back.
 * The lock appears complete or not at all (link), and one that a killed process left is moved away first,
 * so that of two starters only one gets it.
 * @throws AppError ERR_CLI_STATE_LOCKED naming the pid that has it, ERR_CLI_STATE
 */
export const takeLock = (stateDirectory: string): (() => void) => {
  const path = join(stateDirectory, LOCK_NAME);
  const mine = join(stateDirectory, `${LOCK_NAME}.${randomBytes(6).toString('hex')}`);
  const content = `${JSON.stringify(identityOf(process.pid))}\n`;
  try {
    writeFileSync(mine, content, { mode: PRIVATE_FILE_MODE });
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      try {
        linkSync(mine, path);
        return () => {
          if (readLock(path)?.pid === process.pid) rmSync(path, { force: true });
        };
      } catch (error) {
        if (foreignCodeOf(error) !== 'EEXIST') throw error;
      }
      const holder = readLock(path);
      if (holder !== undefined && isAlive(holder)) {
        throw new AppError(
          'ERR_CLI_STATE_LOCKED',
          `another \`sallyport up\` (process ${holder.pid}) uses ${stateDirectory}; stop it, or give --state another directory`,
        );
      }
      const aside = `${mine}.stale`;
      renameSync(path, aside);
      const moved = readLock(aside);
      if (moved !== undefined && isAlive(moved)) linkSync(aside, path);
      rmSync(aside, { force: true });
    }
    throw new AppError('ERR_CLI_STATE_LOCKED', `${path} is contended by another starting \`sallyport up\``);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError('ERR_CLI_STATE', `cannot lock ${stateDirectory}: ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    rmSync(mine, { force: true });
  }
};
