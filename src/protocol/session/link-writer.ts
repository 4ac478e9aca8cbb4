import type { Duplex } from 'node:stream';
import type { Clock } from '../../runtime/index.ts';
import { giveBuffer, takeBuffer } from './buffer-pool.ts';
import {
  FLUSH_BYTES,
  HEADER_BYTES,
  MAX_QUEUED_MESSAGES,
  SLOW_FLUSH_BYTES,
  SLOW_WRITE_MS,
  SMALL_QUEUE_BYTES,
} from './constants.ts';
import { type Waiter, WaitingList } from './waiting-list.ts';

/** What the writer asks of a stream. */
export interface Sender extends Waiter {
  /** Payload bytes waiting. */
  readonly queuedBytes: number;
  /** True while it has data, credit and an open link, or a FIN that nothing is waiting before. */
  readonly wantsToWrite: boolean;
  /** Writes one DATA frame of at most `maxBytes`, header included, and answers its length. */
  writeData(into: Buffer, at: number, maxBytes: number): number;
  /** Writes the pending CREDIT, BLOCKED and RESET, at most `MAX_STATE_BYTES`, and answers the new position. */
  writeState(into: Buffer, at: number): number;
}

/** Longest that CREDIT, BLOCKED and RESET of one stream are together. */
export const MAX_STATE_BYTES = 24 + 16 + 18;
/** Remaining room of a flush in which no further bulk frame is begun. */
const MIN_BULK_BYTES = 4 * 1024;

/**
 * Composes what waits into one prepared buffer and hands it to the link in one write, one write at a time:
 * messages first, then the coalesced state of streams, then small queues, then bulk in turns. What waits for
 * the link therefore waits here, where it can still be overtaken, and not in the socket's own queue.
 */
export class LinkWriter<S extends Sender> {
  readonly waiting = new WaitingList<S>();
  /** Bytes handed to the link since the start. */
  bytesOut = 0;
  /** Monotonic time when the link last took everything it had been handed. */
  lastTakenMs: number;

  readonly #duplex: Duplex;
  readonly #clock: Clock;
  readonly #maxFrameBytes: number;
  readonly #onTaken: () => void;
  #messages: Buffer[] = [];
  #firstMessage = 0;
  #changed: S[] = [];
  #firstChanged = 0;
  #writing: Buffer | undefined;
  #writeStartedMs = 0;
  #flushBytes = FLUSH_BYTES;

  /** `onTaken` is called after each write that the link took, to flush again. */
  constructor(duplex: Duplex, clock: Clock, maxFrameBytes: number, onTaken: () => void) {
    this.#duplex = duplex;
    this.#clock = clock;
    this.#maxFrameBytes = maxFrameBytes;
    this.#onTaken = onTaken;
    this.lastTakenMs = clock.monotonicMs();
  }

  /** True while the link has not taken the last write. */
  get congested(): boolean {
    return this.#writing !== undefined;
  }

  get idle(): boolean {
    return !this.congested && !this.pending;
  }

  get pending(): boolean {
    return (
      this.waiting.size > 0 ||
      this.#firstMessage < this.#messages.length ||
      this.#firstChanged < this.#changed.length
    );
  }

  /** Queues a whole frame that is not DATA; false when too many are waiting. */
  message(frame: Buffer): boolean {
    if (this.#messages.length - this.#firstMessage >= MAX_QUEUED_MESSAGES) return false;
    this.#messages.push(frame);
    return true;
  }

  /** Notes that `writeState` of the stream has something to write; the stream keeps itself from being noted twice. */
  stateChanged(stream: S): void {
    this.#changed.push(stream);
  }

  /** Puts the stream on the waiting list, or takes it off, as `wantsToWrite` says. */
  update(stream: S): void {
    if (stream.wantsToWrite) this.waiting.add(stream, stream.queuedBytes <= SMALL_QUEUE_BYTES);
    else this.waiting.remove(stream);
  }

  /** Writes once, unless the link is still busy with the last write or nothing waits. */
  flush(): void {
    if (this.#writing !== undefined || !this.pending) return;
    const buffer = takeBuffer();
    const end = this.#flushBytes;
    let at = this.#writeMessages(buffer, end);
    at = this.#writeStates(buffer, at, end);
    // Small queues may take half of what is left while bulk waits, so that neither starves the other.
    const smallEnd = this.waiting.firstBulk === undefined ? end : at + Math.floor((end - at) / 2);
    at = this.#writeSmall(buffer, at, smallEnd);
    at = this.#writeBulk(buffer, at, end);
    if (at === 0) {
      giveBuffer(buffer);
      return;
    }
    this.#writing = buffer;
    this.#writeStartedMs = this.#clock.monotonicMs();
    this.bytesOut += at;
    this.#duplex.write(buffer.subarray(0, at), this.#taken);
  }

  /** Forgets everything that waits. */
  clear(): void {
    this.#messages = [];
    this.#firstMessage = 0;
    this.#changed = [];
    this.#firstChanged = 0;
    for (const stream of this.waiting) this.waiting.remove(stream);
  }

  readonly #taken = (): void => {
    const buffer = this.#writing;
    if (buffer === undefined) return;
    this.#writing = undefined;
    giveBuffer(buffer);
    const nowMs = this.#clock.monotonicMs();
    this.lastTakenMs = nowMs;
    // A slow link gets short writes: what it holds cannot be overtaken by a PING or by another stream.
    this.#flushBytes = nowMs - this.#writeStartedMs > SLOW_WRITE_MS ? SLOW_FLUSH_BYTES : FLUSH_BYTES;
    this.#onTaken();
  };

  #writeMessages(into: Buffer, end: number): number {
    let at = 0;
    for (;;) {
      const frame = this.#messages[this.#firstMessage];
      if (frame === undefined || at + frame.length > end) break;
      frame.copy(into, at);
      at += frame.length;
      this.#firstMessage += 1;
    }
    if (this.#firstMessage === this.#messages.length) {
      this.#messages.length = 0;
      this.#firstMessage = 0;
    }
    return at;
  }

  #writeStates(into: Buffer, from: number, end: number): number {
    // A RESET may not overtake the OPEN or ACCEPT of its stream.
    if (this.#messages.length > 0) return from;
    let at = from;
    for (;;) {
      const stream = this.#changed[this.#firstChanged];
      if (stream === undefined || at + MAX_STATE_BYTES > end) break;
      at = stream.writeState(into, at);
      this.#firstChanged += 1;
    }
    if (this.#firstChanged === this.#changed.length) {
      this.#changed.length = 0;
      this.#firstChanged = 0;
    }
    return at;
  }

  #writeSmall(into: Buffer, from: number, end: number): number {
    if (this.#messages.length > 0) return from;
    let at = from;
    for (;;) {
      const stream = this.waiting.firstSmall;
      if (stream === undefined) return at;
      if (stream.queuedBytes > SMALL_QUEUE_BYTES) {
        this.waiting.remove(stream);
        this.waiting.add(stream, false);
        continue;
      }
      if (at + HEADER_BYTES + stream.queuedBytes > end) return at;
      at += stream.writeData(into, at, Math.min(end - at, this.#maxFrameBytes));
      this.waiting.remove(stream);
      this.update(stream);
    }
  }

  #writeBulk(into: Buffer, from: number, end: number): number {
    if (this.#messages.length > 0) return from;
    let at = from;
    while (end - at >= MIN_BULK_BYTES) {
      const stream = this.waiting.firstBulk;
      if (stream === undefined) return at;
      const most = Math.min(end - at, stream.deficitBytes, this.#maxFrameBytes);
      const written = stream.writeData(into, at, most);
      at += written;
      stream.deficitBytes -= written;
      if (!stream.wantsToWrite) this.waiting.remove(stream);
      else if (stream.deficitBytes < MIN_BULK_BYTES) this.waiting.rotate(stream);
    }
    return at;
  }
}
