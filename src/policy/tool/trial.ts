import { type Clock, startWorker, systemClock } from '../../runtime/index.ts';
import type { EngineProgram } from '../engine/messages.ts';

/** Longest a bundle may take to start and to answer, in milliseconds: far above what any agent would wait. */
const LIMIT_MS = 10_000;

/** Inputs for one entrypoint of a bundle; none only starts it. */
export interface TrialJob {
  readonly program: EngineProgram;
  readonly entrypoint: string;
  readonly inputs: readonly Readonly<Record<string, unknown>>[];
}

export type TrialResult =
  /** What each evaluation returned: a result set, unchecked. */
  | { readonly kind: 'answers'; readonly answers: readonly unknown[] }
  /** It was not started: it needs these builtins, which no agent has. */
  | { readonly kind: 'builtins'; readonly names: readonly string[] }
  | { readonly kind: 'failed'; readonly detail: string };

/** The thread's modules are loaded, then what came of it. */
export type TrialMessage = { readonly kind: 'started' } | TrialResult;

/** Runs a bundle in a thread of its own, which is ended afterwards even inside an endless loop. Never rejects. */
export const runTrial = (job: TrialJob, clock: Clock = systemClock): Promise<TrialResult> =>
  new Promise((resolve) => {
    const worker = startWorker(new URL('./trial-worker.ts', import.meta.url), { workerData: job });
    let isStarted = false;
    const settle = (result: TrialResult): void => {
      timer.cancel();
      resolve(result);
      // V8 aborts the process when a thread is terminated while it loads modules: such a one is left alone.
      if (isStarted) void worker.terminate();
      else worker.unref();
    };
    const timer = clock.after(LIMIT_MS, () =>
      settle({ kind: 'failed', detail: `it does not answer within ${String(LIMIT_MS)} ms` }),
    );
    worker.on('message', (message: TrialMessage) => {
      isStarted = true;
      if (message.kind !== 'started') settle(message);
    });
    worker.once('error', (error) => settle({ kind: 'failed', detail: error.message }));
  });
