import { Worker, type WorkerOptions } from 'node:worker_threads';

/** Whether this runs as built JavaScript rather than as TypeScript through a loader (tests, benchmarks). */
const isBuilt = import.meta.url.endsWith('.js');
const loaderStart = new URL('./worker-start.mjs', import.meta.url);

/**
 * Starts a worker thread from the file that the TypeScript file is built to, whatever the current directory is. It
 * inherits none of the process's Node flags: V8's are for the process and refused for a worker, and a relative
 * `--import` would be looked up in the current directory.
 */
export const startWorker = (file: URL, options: Omit<WorkerOptions, 'argv'> = {}): Worker =>
  isBuilt
    ? new Worker(new URL(file.href.replace(/\.ts$/, '.js')), { execArgv: [], ...options })
    : new Worker(loaderStart, { execArgv: [], ...options, argv: [file.href] });
