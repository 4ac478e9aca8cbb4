/** Entrypoints every bundle must have, by the action they answer. */
export const ENTRYPOINT = {
  publish: 'sallyport/decision/publish',
  stream: 'sallyport/decision/stream',
} as const;

export type Action = keyof typeof ENTRYPOINT;

/** What an engine runs: compiled once on the main thread, shared by all workers. */
export interface EngineProgram {
  readonly module: WebAssembly.Module;
  /** The bundle's `data.json`, parsed in the worker. */
  readonly dataText: string;
  /** JSON that replaces `data.sallyport.grants`, if grants come from a file of their own. */
  readonly grantsText?: string;
}

/** Cells of the memory shared between a worker and the main thread, each a 64-bit integer. */
export const SHARED = {
  /** `process.hrtime.bigint()` at which the evaluation under way began; 0 when none is. */
  startedNs: 0,
  /** Index, within the batch, of the evaluation under way or last done. */
  index: 1,
  cells: 2,
} as const;

export interface WorkerSettings {
  readonly program: EngineProgram;
  readonly shared: BigInt64Array;
  /** Runs only where nothing else wants the processor; on Linux, where threads have a priority of their own. */
  readonly isBackground: boolean;
}

/** One decision: the same input with each address as `target.address`. */
export interface EvaluationRequest {
  readonly action: Action;
  /** Canonical input. */
  readonly input: string;
  readonly addresses: readonly string[];
}

/** What a worker answers for one request, as JSON text (cheaper to pass than a cloned object). */
export type WorkerOutcome =
  | { readonly kind: 'verdicts'; readonly verdicts: readonly unknown[]; readonly evalUs: number }
  | { readonly kind: 'error'; readonly detail: string; readonly evalUs: number };

export type WorkerMessage =
  /** The thread's own code is loaded; from here on what it does is the policy's. */
  | { readonly kind: 'begun' }
  | { readonly kind: 'ready' }
  | {
      readonly kind: 'failed';
      readonly code: 'ERR_POLICY_ENGINE' | 'ERR_POLICY_BUILTIN';
      readonly detail: string;
    }
  | {
      readonly kind: 'done';
      readonly outcomes: readonly string[];
      /** The instance threw at the last outcome: it is being replaced, what follows was not evaluated. */
      readonly spoiled: boolean;
    };
