import { Worker, type WorkerOptions } from 'node:worker_threads';

const tsxLoader = import.meta.resolve('tsx');

/** Starts a worker thread from a TypeScript file, whatever the current directory is. */
export const startWorker = (file: URL, options: WorkerOptions = {}): Worker =>
  new Worker(file, { ...options, execArgv: ['--import', tsxLoader, ...(options.execArgv ?? [])] });
