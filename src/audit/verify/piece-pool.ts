import type { Worker } from 'node:worker_threads';
import { startWorker } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import type { Piece, PieceResult, PieceRunner } from './piece.ts';
import type { FromPieceWorker, PieceWorkerData, ToPieceWorker } from './piece-messages.ts';

/** Pieces handed in for each worker: one under way, and as many that wait for their turn in the order of their chain. */
const PIECES_PER_WORKER = 3;

interface Job {
  readonly piece: Piece;
  readonly resolve: (result: PieceResult) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  job: Job | undefined;
}

/** Worker threads that check pieces, each with a connection of its own on one snapshot. */
export class PiecePool implements PieceRunner {
  readonly width: number;
  readonly #threads = new Set<Thread>();
  readonly #idle: Thread[] = [];
  readonly #waiting: Job[] = [];
  readonly #ended: Promise<unknown>[] = [];
  readonly #onEvents: (count: number) => void;
  #failure: Error | undefined;
  #closing = false;

  constructor(workers: number, data: PieceWorkerData, onEvents: (count: number) => void) {
    this.width = workers * PIECES_PER_WORKER;
    this.#onEvents = onEvents;
    for (let n = 0; n < workers; n += 1) this.#start(data);
  }

  check(piece: Piece): Promise<PieceResult> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) reject(this.#failure);
      else this.#waiting.push({ piece, resolve, reject });
      this.#assign();
    });
  }

  /** Idle threads end by themselves, so that the database sees its connections closed; busy ones are stopped. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const thread of this.#threads) {
      if (this.#idle.includes(thread)) thread.worker.postMessage({ kind: 'end' } satisfies ToPieceWorker);
      else await thread.worker.terminate();
    }
    await Promise.all(this.#ended);
  }

  #start(data: PieceWorkerData): void {
    const worker = startWorker(new URL('./piece-worker.ts', import.meta.url), { workerData: data });
    const thread: Thread = { worker, job: undefined };
    this.#threads.add(thread);
    worker.on('message', (message: FromPieceWorker) => this.#take(thread, message));
    worker.on('error', (cause) => this.#fail(`worker failed: ${String(cause)}`, cause));
    this.#ended.push(
      new Promise<void>((resolve) => {
        worker.on('exit', () => {
          resolve();
          if (!this.#closing) this.#fail('a worker ended');
        });
      }),
    );
  }

  #take(thread: Thread, message: FromPieceWorker): void {
    if (message.kind === 'events') {
      this.#onEvents(message.count);
    } else if (message.kind === 'failed') {
      this.#fail(message.message);
    } else {
      const { job } = thread;
      thread.job = undefined;
      this.#idle.push(thread);
      if (message.kind === 'checked') job?.resolve(message.result);
      this.#assign();
    }
  }

  #assign(): void {
    while (this.#idle.length > 0 && this.#waiting.length > 0) {
      const thread = this.#idle.shift();
      const job = this.#waiting.shift();
      if (thread === undefined || job === undefined) return;
      thread.job = job;
      thread.worker.postMessage({ kind: 'check', piece: job.piece } satisfies ToPieceWorker);
    }
  }

  /** The first failure is the one that counts. */
  #fail(message: string, cause?: unknown): void {
    this.#failure ??= auditError('ERR_AUDIT_DATABASE', `the audit database cannot be verified: ${message}`, {
      cause,
      retryable: true,
    });
    const jobs = [...this.#waiting.splice(0), ...[...this.#threads].flatMap(({ job }) => job ?? [])];
    for (const { reject } of jobs) reject(this.#failure);
  }
}
