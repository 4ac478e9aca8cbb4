import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Closer } from './temporary.ts';

const STOP_DEADLINE_MS = 15_000;
const KEPT_BYTES = 256 * 1024;

/** A server that runs beside a test, with what it has said. */
export interface Background {
  readonly pid: number;
  readonly child: ChildProcess;
  /** Both outputs, the newest 256 KiB. */
  output(): string;
  /** Resolves when a line of the output matches; rejects when the process ends first or the deadline passes. */
  said(pattern: RegExp, deadlineMs?: number): Promise<RegExpExecArray>;
  /** Sends the signal and waits for the end; SIGKILL after 15 s. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
}

const SAID_DEADLINE_MS = 30_000;

/** Starts a program and ends it with the test. */
export const startBackground = (
  t: Closer,
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: Readonly<Record<string, string>> } = {},
): Background => {
  const child = spawn(program, args, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, NO_COLOR: '1', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  const listeners = new Set<() => void>();
  const more = (chunk: Buffer): void => {
    text = (text + chunk.toString('utf8')).slice(-KEPT_BYTES);
    for (const listener of listeners) listener();
  };
  child.stdout.on('data', more);
  child.stderr.on('data', more);
  child.on('error', (error) => more(Buffer.from(`${error.message}\n`)));
  const exited = once(child, 'close').then(
    () => undefined,
    () => undefined,
  );
  const gone = (): boolean => child.exitCode !== null || child.signalCode !== null;

  const end = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> => {
    if (!gone()) {
      child.kill(signal);
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_DEADLINE_MS);
      await exited;
      clearTimeout(late);
    }
    return child.exitCode;
  };
  t.after(() => end());
  return {
    pid: child.pid ?? 0,
    child,
    output: () => text,
    said: (pattern, deadlineMs = SAID_DEADLINE_MS) =>
      new Promise((resolve, reject) => {
        const finish = (): void => {
          listeners.delete(look);
          clearTimeout(late);
        };
        const look = (): void => {
          const match = pattern.exec(text);
          if (match === null) return;
          finish();
          resolve(match);
        };
        const late = setTimeout(() => {
          finish();
          reject(new Error(`${program} did not say ${String(pattern)} within ${deadlineMs} ms:\n${text}`));
        }, deadlineMs);
        listeners.add(look);
        void exited.then(() => {
          if (!listeners.has(look)) return;
          finish();
          reject(new Error(`${program} ended (${child.exitCode ?? child.signalCode ?? '?'}):\n${text}`));
        });
        look();
      }),
    end,
  };
};
