import { Backoff, type Clock, type Logger, type ResettableStream, type Timer } from '../../runtime/index.ts';
import { BytePipe } from '../byte-pipe.ts';
import type { JoinCarriers, LinkPipe, PipeEnd } from '../link-pipe.ts';
import { canHandOver } from './hand-over.ts';
import { PipeWorkerProcess } from './pipe-worker-process.ts';

/** Pipe workers of one node. */
export const MAX_WORKERS = 64;
/** A node takes up its work after this time, whether every worker is ready or not. */
const READY_MS = 10_000;
/** A worker that lived this long is started again at once when it dies. */
const STEADY_MS = 60_000;

export interface PipeWorkersOptions {
  /** 0: the node carries every pipe itself. */
  readonly count: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface WorkerStatus {
  readonly pid: number | undefined;
  readonly state: 'up' | 'down';
  readonly links: number;
}

interface Slot {
  process: PipeWorkerProcess | undefined;
  startedMs: number;
  readonly backoff: Backoff;
  restart: Timer | undefined;
}

/**
 * The processes that copy the bytes of this node's data links, so that one node uses several cores behind one port. All
 * that decides stays in the node; a pipe goes to the worker with the fewest, and while none is up the node carries it.
 */
export class PipeWorkers {
  readonly #options: PipeWorkersOptions;
  readonly #slots: Slot[] = [];
  #nextId = 1;
  #isClosed = false;
  #onReady: () => void = () => undefined;

  constructor(options: PipeWorkersOptions) {
    this.#options = options;
  }

  /** Starts every worker; resolves when all are ready, or some are not in time. */
  async start(): Promise<void> {
    const { count, clock, logger } = this.#options;
    if (count === 0) return;
    for (let index = 0; index < count; index += 1) {
      const slot: Slot = { process: undefined, startedMs: 0, backoff: new Backoff(), restart: undefined };
      this.#slots.push(slot);
      this.#startOne(slot);
    }
    await new Promise<void>((resolve) => {
      const timer = clock.after(READY_MS, () => {
        logger.warn({ workers: this.status() }, `some pipe workers were not ready within ${READY_MS} ms`);
        resolve();
      });
      this.#onReady = () => {
        if (!this.#slots.every((slot) => slot.process?.isReady === true)) return;
        timer.cancel();
        resolve();
      };
    });
  }

  readonly join: JoinCarriers = (
    gateway: ResettableStream,
    agent: ResettableStream,
    nowMs: number,
    onEnd: (end: PipeEnd) => void,
  ): LinkPipe => {
    const worker = this.#pick();
    if (worker === undefined || !canHandOver(gateway) || !canHandOver(agent))
      return new BytePipe(gateway, agent, nowMs, onEnd);
    this.#nextId += 1;
    return worker.pipe(this.#nextId, { gateway, agent }, onEnd);
  };

  status(): readonly WorkerStatus[] {
    return this.#slots.map(({ process }) => ({
      pid: process?.pid,
      state: process?.isReady === true ? 'up' : 'down',
      links: process?.pipeCount ?? 0,
    }));
  }

  /** About once a second. */
  tick(): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const { process } of this.#slots) process?.tick(nowMs);
  }

  /** Ends every worker with what it carries. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { restart } of this.#slots) restart?.cancel();
    await Promise.all(this.#slots.map(async ({ process }) => process?.close()));
  }

  #pick(): PipeWorkerProcess | undefined {
    let best: PipeWorkerProcess | undefined;
    for (const { process } of this.#slots) {
      if (process?.isReady !== true) continue;
      if (best === undefined || process.pipeCount < best.pipeCount) best = process;
    }
    return best;
  }

  #startOne(slot: Slot): void {
    const { clock, logger } = this.#options;
    slot.startedMs = clock.monotonicMs();
    const process = new PipeWorkerProcess(clock, {
      onReady: () => this.#onReady(),
      onStuck: (why) => logger.error({ pid: process.pid }, `${why}; it is killed`),
      onExit: (why) => {
        slot.process = undefined;
        if (this.#isClosed) return;
        if (clock.monotonicMs() - slot.startedMs >= STEADY_MS) slot.backoff.reset();
        logger.error({ pid: process.pid }, `pipe worker ${why}; its links are lost, it is started again`);
        slot.restart = clock.after(slot.backoff.nextDelayMs(), () => this.#startOne(slot)).unref();
      },
    });
    slot.process = process;
  }
}
