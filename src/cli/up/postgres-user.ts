import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
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

/**
 * Makes sure that the user can reach a path at all: a home directory of root usually keeps others out.
 * @throws AppError ERR_CLI_POSTGRES naming the directory that it cannot enter
 */
export const requireReachable = (path: string, user: PostgresUser): void => {
  for (let directory = path; ; directory = dirname(directory)) {
    const { uid, gid, mode } = statSync(directory);
    const needed = uid === user.uid ? OWNER_ENTER : gid === user.gid ? GROUP_ENTER : OTHERS_ENTER;
    if ((mode & needed) === 0) {
      throw new AppError(
        'ERR_CLI_POSTGRES',
        `postgres runs as user ${USER} because you are root, and that user cannot enter ${directory}; run as another user, move the checkout and --state elsewhere (such as /srv), or give --database URL`,
      );
    }
    if (dirname(directory) === directory) return;
  }
};
