import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, closeSync, existsSync, openSync, readFileSync, renameSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  AppError,
  type Clock,
  environment,
  MALLOC_SETTINGS,
  messageOf,
  NODE_FLAGS,
} from '../../runtime/index.ts';
import { packageRoot } from '../version.ts';

/** A process that keeps dying ends `up`: this many deaths within the window. */
const MAX_DEATHS = 4;
const DEATH_WINDOW_MS = 30_000;
const RESTART_DELAY_MS = 250;
/** A log beyond this is set aside (one generation) when its process starts. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;
/** Who was killed had no last words. */
const KILLED = 'killed by';
const TAIL_BYTES = 16 * 1024;
/** Children see no overrides meant for the process that the operator started. */
const OVERRIDE = /^SALLYPORT_(?!OPA$)/;

export interface ChildOptions {
  readonly name: 'relay' | 'agent' | 'gateway';
  readonly configFile: string;
  readonly logFile: string;
  readonly clock: Clock;
  /** Also copy what it logs to our own stderr. */
  readonly verbose: boolean;
  /** It died and is being started again. */
  readonly onRestart: (detail: string) => void;
  /** It keeps dying: nobody starts it again. */
  readonly onGivenUp: (detail: string) => void;
}

export interface Child {
  readonly name: string;
  /** Of the process that runs now. */
  readonly pid: number;
  /** Rejects when it ends before this is called off: why it could not start. */
  readonly failedToStart: Promise<never>;
  /** Called once it answers: from here on a death is followed by a new start. */
  supervise(): void;
  reload(): void;
  /** Asks it to drain and ends it after the deadline whatever it does. */
  stop(deadlineMs: number): Promise<void>;
}

const openLog = (file: string): number => {
  if (existsSync(file) && statSync(file).size > MAX_LOG_BYTES) renameSync(file, `${file}.1`);
  return openSync(file, 'a', 0o600);
};

/** Why a process ended: what it said in plain lines at last, else its last log message. */
const lastWords = (file: string, fromByte: number): string => {
  try {
    const text = readFileSync(file).subarray(fromByte).subarray(-TAIL_BYTES).toString('utf8');
    const lines = text.trim().split('\n');
    const said = lines.slice(lines.findLastIndex((line) => line.startsWith('{')) + 1);
    if (said.length > 0) return said.join('\n').replaceAll('sallyport: ', '');
    const last = lines.at(-1) ?? '';
    const entry = JSON.parse(last) as { msg?: string; err?: unknown };
    const cause = typeof entry.err === 'string' ? `: ${entry.err}` : '';
    return `${entry.msg ?? 'no message'}${cause}`;
  } catch {
    return 'nothing in its log';
  }
};

/** Starts `sallyport relay|agent|gateway` as a process of its own, which ends when this one is gone. */
export const startChild = (options: ChildOptions): Child => {
  const { name, clock, logFile } = options;
  let stopping = false;
  let supervised = false;
  let deaths: number[] = [];
  let current: ChildProcess;
  let ended: Promise<void>;
  let failToStart: (error: AppError) => void = () => undefined;
  const failedToStart = new Promise<never>((_, reject) => {
    failToStart = reject;
  });
  failedToStart.catch(() => undefined);

  const died = (how: string, logStart: number): void => {
    if (stopping) return;
    const detail = how.startsWith(KILLED) ? how : `${how}: ${lastWords(logFile, logStart)}`;
    if (!supervised) {
      failToStart(
        new AppError('ERR_CLI_CHILD', `the ${name} did not start (${detail}); its log is ${logFile}`),
      );
      return;
    }
    const nowMs = clock.monotonicMs();
    deaths = [...deaths.filter((atMs) => nowMs - atMs < DEATH_WINDOW_MS), nowMs];
    if (deaths.length >= MAX_DEATHS) {
      options.onGivenUp(
        `the ${name} died ${deaths.length} times within ${DEATH_WINDOW_MS / 1000} s (${detail})`,
      );
      return;
    }
    options.onRestart(detail);
    clock.after(RESTART_DELAY_MS, () => {
      if (!stopping) start();
    });
  };

  const start = (): void => {
    const log = openLog(logFile);
    const logStart = statSync(logFile).size;
    const inherited = Object.entries(environment).filter(([key]) => !OVERRIDE.test(key));
    const child = spawn(
      process.execPath,
      [
        ...NODE_FLAGS,
        fileURLToPath(new URL('bin/sallyport', packageRoot)),
        ...(options.verbose ? ['-v'] : []),
        name,
        '--config',
        options.configFile,
        '--with-parent',
      ],
      {
        // Its own session: an interrupt typed at the terminal is for `up`, which stops the others in order.
        detached: true,
        stdio: ['pipe', log, options.verbose ? 'pipe' : log],
        env: { ...MALLOC_SETTINGS, ...Object.fromEntries(inherited) },
      },
    );
    child.stderr?.on('data', (chunk: Buffer) => {
      process.stderr.write(chunk);
      appendFileSync(logFile, chunk);
    });
    closeSync(log);
    child.stdin?.on('error', () => undefined);
    current = child;
    ended = new Promise((resolve) => {
      child.once('error', (error) => {
        resolve();
        died(messageOf(error), logStart);
      });
      child.once('exit', (code, signal) => {
        resolve();
        died(signal === null ? `exit code ${code ?? '?'}` : `${KILLED} ${signal}`, logStart);
      });
    });
  };
  start();

  return {
    name,
    get pid() {
      return current.pid ?? 0;
    },
    failedToStart,
    supervise() {
      supervised = true;
    },
    reload() {
      current.kill('SIGHUP');
    },
    async stop(deadlineMs) {
      stopping = true;
      if (current.exitCode !== null || current.signalCode !== null) return;
      current.kill('SIGTERM');
      const impatience = clock.after(deadlineMs, () => current.kill('SIGKILL'));
      await ended;
      impatience.cancel();
    },
  };
};
