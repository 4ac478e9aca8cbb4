import type { Socket } from 'node:net';
import type { Side } from '../protocol/index.ts';
import { resetSocket } from '../runtime/index.ts';

/** Most that waits for one side before the other is no longer read: the fixed buffer of a direction. */
export const PIPE_BUFFER_BYTES = 512 * 1024;
/** A pipe without a byte either way for this long is dead: PINGs guarantee one every 10 s. */
export const PIPE_SILENT_MS = 45_000;
/** A pipe whose waiting bytes have not moved for this long is dead. */
export const PIPE_STUCK_MS = 60_000;
/** After one side ended, the other has this long to end too. */
export const PIPE_LINGER_MS = 5_000;

/** How a pipe came to its end. */
export type PipeEnd =
  /** That side's carrier was closed in good order. */
  | { readonly kind: 'ended'; readonly side: Side }
  /** That side's carrier broke. */
  | { readonly kind: 'broken'; readonly side: Side }
  | { readonly kind: 'silent' }
  | { readonly kind: 'stuck' }
  | { readonly kind: 'cut' };

/** One direction: what was read from `from` goes to `to`, in order, at most `PIPE_BUFFER_BYTES` waiting. */
interface Direction {
  readonly from: Socket;
  readonly to: Socket;
  /** Bytes read and handed to `to`. */
  bytes: number;
  paused: boolean;
  /** `bytes` at the last tick, and the last tick at which they had risen. */
  seenBytes: number;
  seenAtMs: number;
  /** `bytes` minus what waits, at the last tick, and the last tick at which it rose or nothing waited. */
  movedBytes: number;
  movedAtMs: number;
}

const direction = (from: Socket, to: Socket, nowMs: number): Direction => ({
  from,
  to,
  bytes: 0,
  paused: false,
  seenBytes: 0,
  seenAtMs: nowMs,
  movedBytes: 0,
  movedAtMs: nowMs,
});

/**
 * Copies bytes between the two carriers of a data link. Owns both sockets from its making. There is no timer in it:
 * the relay calls `tick` about once a second.
 */
export class BytePipe {
  readonly #up: Direction;
  readonly #down: Direction;
  readonly #onEnd: (end: PipeEnd) => void;
  #end: PipeEnd | undefined;
  #lingerFromMs: number | undefined;
  #openCount = 2;
  #nowMs: number;

  /**
   * @param nowMs monotonic
   * @param onEnd once, when both sockets are closed (after `cut`: before it returns)
   */
  constructor(gateway: Socket, agent: Socket, nowMs: number, onEnd: (end: PipeEnd) => void) {
    this.#nowMs = nowMs;
    this.#up = direction(gateway, agent, nowMs);
    this.#down = direction(agent, gateway, nowMs);
    this.#onEnd = onEnd;
  }

  /** Bytes copied from gateway to agent. */
  get bytesUp(): number {
    return this.#up.bytes;
  }

  /** Bytes copied from agent to gateway. */
  get bytesDown(): number {
    return this.#down.bytes;
  }

  /** Bytes that were read and wait to be written, both directions. */
  get waitingBytes(): number {
    return this.#up.to.writableLength + this.#down.to.writableLength;
  }

  /** Starts copying; the heads are what was read of each side before, and go first. */
  start(gatewayHead: Buffer, agentHead: Buffer): void {
    this.#attach(this.#up, 'gateway', gatewayHead);
    this.#attach(this.#down, 'agent', agentHead);
  }

  /** Stops reading both sockets, drops the queues and resets both, all in this call. */
  cut(): void {
    this.#destroy({ kind: 'cut' });
  }

  /** Looks for silence, a stuck queue and an overdue second end. */
  tick(nowMs: number): void {
    if (this.#openCount === 0) return;
    this.#nowMs = nowMs;
    for (const way of [this.#up, this.#down]) {
      const moved = way.bytes - way.to.writableLength;
      if (way.bytes !== way.seenBytes) way.seenAtMs = nowMs;
      if (moved !== way.movedBytes || way.to.writableLength === 0) way.movedAtMs = nowMs;
      way.seenBytes = way.bytes;
      way.movedBytes = moved;
    }
    const end = this.#overdue(nowMs);
    if (end !== undefined) this.#destroy(end);
  }

  #overdue(nowMs: number): PipeEnd | undefined {
    const { waitingBytes } = this;
    if (this.#lingerFromMs !== undefined && waitingBytes === 0) {
      if (nowMs - this.#lingerFromMs >= PIPE_LINGER_MS) return this.#end;
    }
    const ways = [this.#up, this.#down];
    if (ways.some((way) => nowMs - way.movedAtMs >= PIPE_STUCK_MS)) return { kind: 'stuck' };
    const silent = ways.every((way) => nowMs - way.seenAtMs >= PIPE_SILENT_MS);
    return silent && waitingBytes === 0 ? { kind: 'silent' } : undefined;
  }

  #attach(way: Direction, side: Side, head: Buffer): void {
    const { from, to } = way;
    const onDrain = (): void => {
      if (!way.paused) return;
      way.paused = false;
      from.resume();
    };
    from.on('data', (chunk: Buffer) => {
      way.bytes += chunk.length;
      to.write(chunk);
      if (to.writableLength > PIPE_BUFFER_BYTES) {
        way.paused = true;
        from.pause();
      }
    });
    to.on('drain', onDrain);
    from.on('end', () => this.#ended({ kind: 'ended', side }, to));
    from.on('error', () => this.#ended({ kind: 'broken', side }, to));
    from.on('close', () => this.#closed(side, to));
    if (head.length > 0) {
      way.bytes += head.length;
      to.write(head);
    }
    // A carrier that broke while it waited has no further event to tell it by.
    if (from.destroyed) this.#closed(side, to);
    else from.resume();
  }

  /** What was read of that side still leaves, then the other is ended too. */
  #ended(end: PipeEnd, to: Socket): void {
    this.#end ??= end;
    this.#lingerFromMs ??= this.#nowMs;
    if (!to.writableEnded) to.end();
  }

  #closed(side: Side, to: Socket): void {
    this.#ended({ kind: 'broken', side }, to);
    this.#openCount -= 1;
    if (this.#openCount === 0) this.#onEnd(this.#end ?? { kind: 'broken', side });
  }

  #destroy(end: PipeEnd): void {
    if (this.#openCount === 0) return;
    this.#openCount = 0;
    const sockets = [this.#up.from, this.#down.from];
    for (const socket of sockets) {
      socket.removeAllListeners('data');
      socket.pause();
    }
    for (const socket of sockets) resetSocket(socket);
    this.#onEnd(end);
  }
}
