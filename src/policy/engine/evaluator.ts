import type { Worker } from 'node:worker_threads';
import { startWorker } from '../../runtime/index.ts';
import {
  type EngineProgram,
  type EvaluationRequest,
  SHARED,
  type WorkerMessage,
  type WorkerSettings,
} from './messages.ts';

const CELL_BYTES = 8;
/** JavaScript heap of a thread in the background, MiB: parsed data and what one answer takes; wasm is bounded apart. */
const BACKGROUND_HEAP_MIB = 512;
const NS_PER_MS = 1_000_000n;

export type EvaluatorState = 'starting' | 'idle' | 'busy' | 'dead';

export interface EvaluatorHandlers {
  /** The policy is being instantiated, which may take for ever: at the beginning and after every throw. */
  onStarting(): void;
  onReady(): void;
  onFailed(message: Extract<WorkerMessage, { kind: 'failed' }>): void;
  onDone(message: Extract<WorkerMessage, { kind: 'done' }>): void;
  /** The thread ended without being asked; `index` is the evaluation it was in, -1 when in none. */
  onLost(index: number): void;
}

/** One worker thread with one wasm instance; at most one batch is with it at a time. */
export class Evaluator {
  readonly #worker: Worker;
  readonly #shared: BigInt64Array;
  #state: EvaluatorState = 'starting';
  readonly #started: Promise<void>;
  #onStarted: () => void = () => undefined;

  /** @param isBackground gives way to everything else, and is ended when its heap grows over a bound of its own */
  constructor(program: EngineProgram, handlers: EvaluatorHandlers, isBackground = false) {
    this.#shared = new BigInt64Array(new SharedArrayBuffer(SHARED.cells * CELL_BYTES));
    const workerData: WorkerSettings = { program, shared: this.#shared, isBackground };
    const resourceLimits = { maxOldGenerationSizeMb: BACKGROUND_HEAP_MIB };
    this.#worker = startWorker(new URL('./engine-worker.ts', import.meta.url), {
      workerData,
      ...(isBackground ? { resourceLimits } : {}),
    });
    this.#started = new Promise((resolve) => {
      this.#onStarted = resolve;
    });
    this.#worker.on('message', (message: WorkerMessage) => {
      this.#onStarted();
      if (this.#state === 'dead') return;
      if (message.kind === 'begun') handlers.onStarting();
      else if (message.kind === 'ready') {
        this.#state = 'idle';
        handlers.onReady();
      } else if (message.kind === 'failed') handlers.onFailed(message);
      else {
        this.#state = message.spoiled ? 'starting' : 'idle';
        handlers.onDone(message);
        if (message.spoiled) handlers.onStarting();
      }
    });
    const lost = (): void => {
      this.#onStarted();
      if (this.#state === 'dead') return;
      const index = this.running()?.index ?? -1;
      this.#state = 'dead';
      handlers.onLost(index);
    };
    this.#worker.on('error', lost);
    this.#worker.on('exit', lost);
  }

  get state(): EvaluatorState {
    return this.#state;
  }

  /** Thread id, for logs and for tests that kill one. */
  get threadId(): number {
    return this.#worker.threadId;
  }

  /** Hands over a batch; only while idle. */
  run(requests: readonly EvaluationRequest[]): void {
    this.#state = 'busy';
    this.#worker.ref();
    this.#worker.postMessage(requests);
  }

  /** Lets the process end while nothing is asked of this thread. */
  rest(): void {
    this.#worker.unref();
  }

  /** The evaluation under way and how long it has run, by the worker's own stamp; undefined between two. */
  running(): { readonly index: number; readonly elapsedMs: number } | undefined {
    const startedNs = Atomics.load(this.#shared, SHARED.startedNs);
    if (startedNs === 0n) return undefined;
    const index = Number(Atomics.load(this.#shared, SHARED.index));
    return { index, elapsedMs: Number((process.hrtime.bigint() - startedNs) / NS_PER_MS) };
  }

  /**
   * Ends the thread, even inside an endless loop; its batch is the caller's to answer. A thread that has not yet
   * said anything is ended when it has: V8 aborts the process when a thread is terminated while it loads modules.
   */
  async terminate(): Promise<void> {
    this.#state = 'dead';
    await this.#started;
    await this.#worker.terminate();
  }

  /** Ends the thread as a crash would: the handlers see it as lost. For fault tests. */
  async kill(): Promise<void> {
    await this.#started;
    await this.#worker.terminate();
  }
}
