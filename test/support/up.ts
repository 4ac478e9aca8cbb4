import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import type { ReadyFile } from '../../src/cli/ready-file.ts';
import { type Background, startBackground } from './background.ts';
import { type CommandResult, sallyport, sallyportProgram } from './command.ts';
import { eventually } from './eventually.ts';
import { type Closer, temporaryDirectory } from './temporary.ts';

const READY_DEADLINE_MS = 60_000;

export interface UpSettings {
  /** `--publish NAME=HOST:PORT` of each. */
  readonly publish?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  /** A state directory of an earlier start; default: a new one. */
  readonly stateDirectory?: string;
}

/** A running `sallyport up`: real processes, real Postgres, TLS on. */
export interface Up {
  readonly process: Background;
  readonly stateDirectory: string;
  /** The ready file as it is now. */
  ready(): ReadyFile;
  /** `ADDR:PORT` that applications of a connection use. */
  listenOf(connection: string): string;
  /** Runs a command against this installation. */
  command(...args: string[]): Promise<CommandResult>;
  /** The same with `--json`; fails unless it exits 0. */
  json<T>(...args: string[]): Promise<T>;
  /** Rows of a query in its database, as its owner, directly. */
  rows<T>(sql: string, values?: readonly unknown[]): Promise<T[]>;
  /** SIGTERM, and the exit code. */
  stop(): Promise<number | null>;
}

const readReady = (file: string): ReadyFile => JSON.parse(readFileSync(file, 'utf8')) as ReadyFile;

/** Starts `sallyport up` and resolves once everything answers; it ends with the test. */
export const startUp = async (t: Closer, settings: UpSettings = {}): Promise<Up> => {
  const stateDirectory = settings.stateDirectory ?? join(temporaryDirectory(t, 'up'), 'state');
  const publish = Object.entries(settings.publish ?? {}).flatMap(([name, target]) => [
    '--publish',
    `${name}=${target}`,
  ]);
  const args = [sallyportProgram, 'up', '--state', stateDirectory, ...publish, ...(settings.args ?? [])];
  const background = startBackground(t, process.execPath, args);
  const file = join(stateDirectory, 'ready.json');
  const first = await eventually(
    'up answers',
    () => {
      if (background.child.exitCode !== null) return { failed: background.output() };
      return { ready: readReady(file) };
    },
    READY_DEADLINE_MS,
  );
  if ('failed' in first)
    throw new Error(`up ended with ${background.child.exitCode ?? '?'}:\n${first.failed}`);

  const command = (...rest: string[]): Promise<CommandResult> =>
    sallyport([...rest, '--state', stateDirectory]);
  return {
    process: background,
    stateDirectory,
    ready: () => readReady(file),
    listenOf(name) {
      const found = readReady(file).connections.find((connection) => connection.name === name);
      if (found === undefined) throw new Error(`up has no connection ${name}`);
      return found.listen;
    },
    command,
    async json<T>(...rest: string[]) {
      const { code, stdout, stderr } = await command('--json', ...rest);
      if (code !== 0) throw new Error(`${rest.join(' ')} exited ${code ?? '?'}:\n${stdout}${stderr}`);
      return JSON.parse(stdout) as T;
    },
    async rows<T>(sql: string, values: readonly unknown[] = []) {
      const client = new pg.Client({ connectionString: first.ready.database_url });
      await client.connect();
      try {
        return (await client.query(sql, [...values])).rows as T[];
      } finally {
        await client.end();
      }
    },
    stop: () => background.end('SIGTERM'),
  };
};
