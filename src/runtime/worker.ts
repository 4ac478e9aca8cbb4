import { Worker, type WorkerOptions } from 'node:worker_threads';

const start = new URL('./worker-start.mjs', import.meta.url);

/**
 * Starts a worker thread from a TypeScript file, whatever the current directory is. It inherits none of the process's
 * Node flags: V8's are for the process and refused for a worker, and a relative `--import` would be looked up in the
 * current directory.
 */
export const startWorker = (file: URL, options: Omit<WorkerOptions, 'argv'> = {}): Worker =>
  new Worker(start, { execArgv: [], ...options, argv: [file.href] });
