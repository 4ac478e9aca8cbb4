import { type ChildProcess, fork } from 'node:child_process';
import { Worker, type WorkerOptions } from 'node:worker_threads';
import { MALLOC_SETTINGS } from './memory.ts';

/** Whether this runs as built JavaScript rather than as TypeScript through a loader (tests, benchmarks). */
const isBuilt = import.meta.url.endsWith('.js');
const loaderStart = new URL('./worker-start.mjs', import.meta.url);

const builtFile = (file: URL): URL => new URL(file.href.replace(/\.ts$/, '.js'));

/**
 * Starts a worker thread from the file that the TypeScript file is built to, whatever the current directory is. It
 * inherits none of the process's Node flags: V8's are for the process and refused for a worker, and a relative
 * `--import` would be looked up in the current directory.
 */
export const startWorker = (file: URL, options: Omit<WorkerOptions, 'argv'> = {}): Worker =>
  isBuilt
    ? new Worker(builtFile(file), { execArgv: [], ...options })
    : new Worker(loaderStart, { execArgv: [], ...options, argv: [file.href] });

/**
 * Starts a process from the file that the TypeScript file is built to, with a channel to it that carries sockets. It
 * gets nothing of this process's environment, where secrets may be, and its standard error. Unlike a thread it takes
 * this process's V8 flags (docs/adr/0005).
 */
export const startProcess = (file: URL): ChildProcess => {
  const options = {
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: MALLOC_SETTINGS,
  } as const;
  return isBuilt
    ? fork(builtFile(file), { ...options, stdio: [...options.stdio] })
    : fork(loaderStart, [file.href], { ...options, stdio: [...options.stdio], execArgv: [] });
};
