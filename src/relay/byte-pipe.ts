import type { Side } from '../protocol/index.ts';
import { giveChunk, READ_BYTES, resetSocket, type ResettableStream, SourceReader } from '../runtime/index.ts';
import type { LinkPipe, PipeEnd } from './link-pipe.ts';

/** Most that waits for one side before the other is no longer read: the fixed buffer of a direction. */
export const PIPE_BUFFER_BYTES = 512 * 1024;
/** The same, counted in reads: each may keep a buffer of `READ_BYTES`, or an object per byte of a peer that dribbles. */
export const PIPE_BUFFER_READS = 16;
/** A pipe without a byte either way for this long is dead: PINGs guarantee one every 10 s. */
export const PIPE_SILENT_MS = 45_000;
/** A pipe whose waiting bytes have not moved for this long is dead. */
export const PIPE_STUCK_MS = 60_000;
/** After one side ended, the other has this long to end too. */
export const PIPE_LINGER_MS = 5_000;

/** One direction: what was read from `from` goes to `to`, in order, at most `PIPE_BUFFER_BYTES` waiting. */
interface Direction {
  readonly from: ResettableStream;
  readonly to: ResettableStream;
  reader: SourceReader | undefined;
  /** Bytes read and handed to `to`. */
  bytes: number;
  /** The reads that `to` has not taken yet. */
  readonly written: Buffer[];
  paused: boolean;
  /** `bytes` at the last tick, and the last tick at which they had risen. */
  seenBytes: number;
  seenAtMs: number;
  /** `bytes` minus what waits, at the last tick, and the last tick at which it rose or nothing waited. */
  movedBytes: number;
  movedAtMs: number;
}

const direction = (from: ResettableStream, to: ResettableStream, nowMs: number): Direction => ({
  from,
  to,
  reader: undefined,
  bytes: 0,
  written: [],
  paused: false,
  seenBytes: 0,
  seenAtMs: nowMs,
  movedBytes: 0,
  movedAtMs: nowMs,
});

/** Whether the side may be read once more. */
const hasRoom = (way: Direction): boolean =>
  way.to.writableLength + READ_BYTES <= PIPE_BUFFER_BYTES && way.written.length < PIPE_BUFFER_READS;

/**
 * Copies bytes between the two carriers of a data link, in this process. Owns both sockets from its making. There is no
 * timer in it: the relay calls `tick` about once a second.
 */
export class BytePipe implements LinkPipe {
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
  constructor(
    gateway: ResettableStream,
    agent: ResettableStream,
    nowMs: number,
    onEnd: (end: PipeEnd) => void,
  ) {
    this.#nowMs = nowMs;
    this.#up = direction(gateway, agent, nowMs);
    this.#down = direction(agent, gateway, nowMs);
    this.#onEnd = onEnd;
  }

  get bytesUp(): number {
    return this.#up.bytes;
  }

  get bytesDown(): number {
    return this.#down.bytes;
  }

  get waitingBytes(): number {
    return this.#up.to.writableLength + this.#down.to.writableLength;
  }

  start(gatewayHead: Buffer, agentHead: Buffer): void {
    this.#attach(this.#up, 'gateway', gatewayHead);
    this.#attach(this.#down, 'agent', agentHead);
  }

  /** All in this call. */
  cut(): undefined {
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
    const onChunk = (chunk: Buffer): void => {
      way.bytes += chunk.length;
      way.written.push(chunk);
      to.write(chunk, onTaken);
      if (!way.paused && !hasRoom(way)) {
        way.paused = true;
        from.pause();
      }
    };
    const onTaken = (): void => {
      const chunk = way.written.shift();
      if (chunk !== undefined) giveChunk(chunk);
      if (!way.paused || from.destroyed || !hasRoom(way)) return;
      way.paused = false;
      from.resume();
    };
    way.reader = new SourceReader(from, onChunk);
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
  #ended(end: PipeEnd, to: ResettableStream): void {
    this.#end ??= end;
    this.#lingerFromMs ??= this.#nowMs;
    if (!to.writableEnded) to.end();
  }

  #closed(side: Side, to: ResettableStream): void {
    this.#ended({ kind: 'broken', side }, to);
    this.#openCount -= 1;
    if (this.#openCount === 0) this.#onEnd(this.#end ?? { kind: 'broken', side });
  }

  #destroy(end: PipeEnd): void {
    if (this.#openCount === 0) return;
    this.#openCount = 0;
    const sockets = [this.#up.from, this.#down.from];
    for (const way of [this.#up, this.#down]) {
      way.reader?.stop();
      way.from.pause();
    }
    for (const socket of sockets) resetSocket(socket);
    this.#onEnd(end);
  }
}
