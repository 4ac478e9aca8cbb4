import { execFileSync } from 'node:child_process';
import { chmodSync, lstatSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AppError, messageOf } from '../../runtime/index.ts';

/** Whom Postgres runs as; undefined: as we do. */
export interface PostgresUser {
  readonly uid: number;
  readonly gid: number;
}

const USER = 'postgres';
const OTHERS_ENTER = 0o001;
const GROUP_ENTER = 0o010;
const OWNER_ENTER = 0o100;
const OTHERS_WRITE = 0o022;
/** Where things go that user `postgres` needs and cannot reach where they are. */
const SHARED_ROOT = '/var/lib/sallyport';
const SHARED_MODE = 0o711;

const findUser = (): PostgresUser | undefined => {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${USER}:`));
  const [, , uid, gid] = line?.split(':') ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
};

/**
 * PostgreSQL refuses to run as root; then it runs as user `postgres`, which is made when there is none.
 * @throws AppError ERR_CLI_POSTGRES
 */
export const postgresUser = (): PostgresUser | undefined => {
  if (process.getuid?.() !== 0) return undefined;
  try {
    const found = findUser();
    if (found !== undefined) return found;
    execFileSync('useradd', ['--system', '--user-group', '--no-create-home', USER], { stdio: 'pipe' });
    const made = findUser();
    if (made !== undefined) return made;
  } catch (error) {
    throw new AppError(
      'ERR_CLI_POSTGRES',
      `postgres does not run as root, and a user ${USER} could not be made (${messageOf(error).trim()}); run as another user, or give --database URL`,
      { cause: error },
    );
  }
  throw new AppError('ERR_CLI_POSTGRES', `postgres does not run as root, and there is no user ${USER}`);
};

/** Whether the user can reach a directory at all: a home directory of root usually keeps others out. */
export const isReachable = (path: string, user: PostgresUser): boolean => {
  for (let directory = path; ; directory = dirname(directory)) {
    const { uid, gid, mode } = statSync(directory);
    const needed = uid === user.uid ? OWNER_ENTER : gid === user.gid ? GROUP_ENTER : OTHERS_ENTER;
    if ((mode & needed) === 0) return false;
    if (dirname(directory) === directory) return true;
  }
};

/**
 * A directory below `/var/lib/sallyport` that both we and the user can enter; ours, so that the user cannot put
 * anything there.
 * @throws AppError ERR_CLI_POSTGRES
 */
export const sharedDirectory = (name: string): string => {
  const directory = join(SHARED_ROOT, name);
  try {
    for (const path of [SHARED_ROOT, directory]) {
      mkdirSync(path, { recursive: true, mode: SHARED_MODE });
      const { uid, mode } = lstatSync(path);
      if (uid !== 0 || (mode & OTHERS_WRITE) !== 0) throw new Error(`${path} is not root's alone`);
      chmodSync(path, SHARED_MODE);
    }
    return directory;
  } catch (error) {
    throw new AppError(
      'ERR_CLI_POSTGRES',
      `postgres runs as user ${USER} because you are root; that user cannot enter the state directory, and ${directory} cannot be made for it (${messageOf(error)}); run as another user, or give --database URL`,
      { cause: error },
    );
  }
};
