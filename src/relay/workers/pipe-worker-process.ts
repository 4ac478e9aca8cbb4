import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Side } from '../../protocol/index.ts';
import { type Clock, startProcess, type Timer } from '../../runtime/index.ts';
import type { LinkPipe, PipeEnd } from '../link-pipe.ts';
import { handOver } from './hand-over.ts';
import type { FromWorker, PipeCounts, ToWorker } from './messages.ts';

/** A worker that does not confirm a cut within this time is killed, and its sockets with it. */
export const WORKER_CUT_MS = 2_000;
/** A worker that says nothing for this long is killed; it speaks every second. */
export const WORKER_SILENT_MS = 15_000;
/** Most that one look counts: after a pause of this process, or of the machine, the worker's word is unread. */
const MAX_TICK_MS = 2_000;
/** A worker that hears nothing of its node for this long ends; it hears every second. */
const NODE_SILENT_MS = 15_000;

export interface WorkerEvents {
  /** It can carry pipes. */
  onReady(): void;
  /** It is gone, and every pipe that it carried has been told so. */
  onExit(why: string): void;
  onStuck(why: string): void;
}

interface Ends {
  readonly gateway: Socket;
  readonly agent: Socket;
}

/** One run of a pipe worker, seen from the node. */
export class PipeWorkerProcess {
  readonly #clock: Clock;
  readonly #events: WorkerEvents;
  readonly #child: ChildProcess;
  readonly #pipes = new Map<number, RemotePipe>();
  #cuts: number[] = [];
  /** When it was last looked at, and for how long it has said nothing. */
  #tickedMs: number;
  #silentMs = 0;
  #isReady = false;
  #isKilled = false;
  #isOver = false;

  constructor(clock: Clock, events: WorkerEvents) {
    this.#clock = clock;
    this.#events = events;
    this.#tickedMs = clock.monotonicMs();
    this.#child = startProcess(new URL('./pipe-worker.ts', import.meta.url));
    this.#child.on('message', (message: FromWorker) => this.#receive(message));
    this.#child.once('exit', (code, signal) => this.#over(`ended with ${signal ?? `code ${code ?? '?'}`}`));
    // A process that could not be started has no exit.
    this.#child.on('error', (error) => {
      if (this.#child.pid === undefined) this.#over(error.message);
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get isReady(): boolean {
    return this.#isReady && !this.#isKilled && !this.#isOver;
  }

  get pipeCount(): number {
    return this.#pipes.size;
  }

  /** A pipe that this worker will carry; nothing is handed over before its `start`. */
  pipe(id: number, ends: Ends, onEnd: (end: PipeEnd) => void): LinkPipe {
    const pipe = new RemotePipe(id, this.#clock, onEnd, {
      carrier: (side, head) => this.#send(id, side, ends[side], head),
      cut: () => this.#cut(id),
      stuck: () => this.#stuck(`pipe worker did not confirm a cut within ${WORKER_CUT_MS} ms`),
    });
    this.#pipes.set(id, pipe);
    return pipe;
  }

  tick(nowMs: number): void {
    if (this.#isOver) return;
    this.#sayAlive();
    this.#silentMs += Math.min(nowMs - this.#tickedMs, MAX_TICK_MS);
    this.#tickedMs = nowMs;
    if (this.#silentMs >= WORKER_SILENT_MS)
      this.#stuck(`pipe worker has been silent for ${WORKER_SILENT_MS} ms`);
  }

  /** Ends it and whatever it carries; resolves when it is gone. */
  async close(): Promise<void> {
    if (this.#isOver) return;
    const exited = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    this.#child.kill('SIGKILL');
    await exited;
  }

  #receive(message: FromWorker): void {
    this.#silentMs = 0;
    switch (message.t) {
      case 'ready':
        this.#isReady = true;
        this.#sayAlive();
        this.#events.onReady();
        return;
      case 'counts':
        for (const counts of message.pipes) this.#pipes.get(counts.id)?.count(counts);
        return;
      case 'ended': {
        const pipe = this.#pipes.get(message.last.id);
        this.#pipes.delete(message.last.id);
        pipe?.count(message.last);
        pipe?.ended(message.end);
      }
    }
  }

  #send(id: number, side: Side, socket: Socket, head: Buffer): () => void {
    return handOver(this.#child, { id, side }, socket, head, () => this.#cut(id));
  }

  /** All cuts of one tick in one message. */
  #cut(id: number): void {
    if (this.#cuts.length === 0) {
      queueMicrotask(() => {
        const message: ToWorker = { t: 'cut', ids: this.#cuts };
        this.#cuts = [];
        // A channel that is closed needs no word: the worker is ending, and 'exit' follows.
        this.#child.send(message, () => undefined);
      });
    }
    this.#cuts.push(id);
  }

  #sayAlive(): void {
    const message: ToWorker = { t: 'alive', forMs: NODE_SILENT_MS };
    this.#child.send(message, () => undefined);
  }

  #stuck(why: string): void {
    if (this.#isKilled || this.#isOver) return;
    this.#isKilled = true;
    this.#events.onStuck(why);
    this.#child.kill('SIGKILL');
  }

  #over(why: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const pipes = [...this.#pipes.values()];
    this.#pipes.clear();
    for (const pipe of pipes) pipe.ended({ kind: 'lost' });
    this.#events.onExit(why);
  }
}

interface Wire {
  /** Answers what resets the carrier if it never reached the worker. */
  carrier(side: Side, head: Buffer): () => void;
  cut(): void;
  stuck(): void;
}

/** A pipe whose bytes another process copies. Its counts are up to a second old until it has ended. */
class RemotePipe implements LinkPipe {
  readonly #clock: Clock;
  readonly #onEnd: (end: PipeEnd) => void;
  readonly #wire: Wire;
  #carriers: readonly (() => void)[] = [];
  #counts: PipeCounts;
  #isOver = false;
  #cutting: Promise<void> | undefined;
  #deadline: Timer | undefined;
  #resolve: () => void = () => undefined;

  constructor(id: number, clock: Clock, onEnd: (end: PipeEnd) => void, wire: Wire) {
    this.#clock = clock;
    this.#onEnd = onEnd;
    this.#wire = wire;
    this.#counts = { id, up: 0, down: 0, waiting: 0 };
  }

  get bytesUp(): number {
    return this.#counts.up;
  }

  get bytesDown(): number {
    return this.#counts.down;
  }

  get waitingBytes(): number {
    return this.#counts.waiting;
  }

  start(gatewayHead: Buffer, agentHead: Buffer): void {
    this.#carriers = [this.#wire.carrier('gateway', gatewayHead), this.#wire.carrier('agent', agentHead)];
  }

  cut(): Promise<void> | undefined {
    if (this.#isOver) return undefined;
    this.#cutting ??= new Promise((resolve) => {
      this.#resolve = resolve;
      this.#wire.cut();
      this.#deadline = this.#clock.after(WORKER_CUT_MS, () => this.#wire.stuck());
    });
    return this.#cutting;
  }

  tick(): void {
    // The worker looks for silence itself.
  }

  count(counts: PipeCounts): void {
    this.#counts = counts;
  }

  ended(end: PipeEnd): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#deadline?.cancel();
    if (end.kind === 'lost') for (const drop of this.#carriers) drop();
    this.#onEnd(end);
    this.#resolve();
  }
}
