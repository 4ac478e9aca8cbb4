import { Worker, type WorkerOptions } from 'node:worker_threads';

const start = new URL('./worker-start.mjs', import.meta.url);

/** The process's own Node flags, less `--import X`, whose relative X would be looked up in the current directory. */
const inheritedFlags = process.execArgv.filter(
  (flag, index, flags) => !flag.startsWith('--import') && flags[index - 1] !== '--import',
);

/** Starts a worker thread from a TypeScript file, whatever the current directory is. */
export const startWorker = (file: URL, options: Omit<WorkerOptions, 'argv'> = {}): Worker =>
  new Worker(start, {
    ...options,
    argv: [file.href],
    execArgv: [...inheritedFlags, ...(options.execArgv ?? [])],
  });
