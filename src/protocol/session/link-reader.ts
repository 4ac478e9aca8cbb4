import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { BufferPool, type ReadTarget, SocketReads } from '../../runtime/index.ts';

/** TLS delivers a record at a time. */
const RECORD_BYTES = 16 * 1024;
export const LINK_BUFFER_BYTES = 128 * 1024;
/** Buffers that the process's busy links have at one time: 64 MiB. */
const MAX_LINK_BUFFERS = 512;
/** A link that reads this much in a loop turn gets a buffer of its own. */
const BUSY_BYTES = 2 * RECORD_BYTES;

/** Where links read that have no buffer of their own: emptied before anything else can read. */
const landing = Buffer.allocUnsafeSlow(RECORD_BYTES);
export const linkBuffers = new BufferPool(LINK_BUFFER_BYTES, MAX_LINK_BUFFERS);

/**
 * Collects what a link delivers within a loop turn, record by record, in one warm buffer, and hands it on in one piece
 * at the end of the turn. A link that is not busy has no buffer, and its bytes are copied out at once.
 */
export class LinkReader implements ReadTarget {
  readonly #onBytes: (bytes: Buffer) => void;
  readonly #onRead: () => void;
  #reads: SocketReads | undefined;
  #own: Buffer | undefined;
  /** Where the next read goes, and up to where bytes have been handed on. */
  #filled = 0;
  #handedOn = 0;
  /** Somebody still held some of it at the end of a turn. */
  #isHeld = false;
  /** Buffers that became full in this turn and that nobody held before. */
  readonly #full: Buffer[] = [];
  #turnBytes = 0;
  #isQuiet = false;

  /** `onBytes` gets what came, in order; `onRead` asks for `handOn` and `endTurn` at the end of this loop turn. */
  constructor(onBytes: (bytes: Buffer) => void, onRead: () => void) {
    this.#onBytes = onBytes;
    this.#onRead = onRead;
  }

  /** Reads the link, from its next `resume` on. */
  start(duplex: Duplex): void {
    // What the link had read before comes by 'data' in any case, and first.
    duplex.on('data', this.#onBytes);
    this.#reads = duplex instanceof Socket ? SocketReads.of(duplex, landing) : undefined;
    if (this.#reads === undefined) return;
    this.#reads.target = this;
    duplex.once('close', this.#onClose);
  }

  /** Hears nothing any more; what the link still brings comes by 'data'. */
  stop(duplex: Duplex): void {
    duplex.off('data', this.#onBytes);
    if (this.#reads?.target === this) this.#reads.target = undefined;
  }

  read(count: number, buffer: Buffer): Buffer {
    const own = this.#own;
    if (this.#turnBytes === 0) this.#onRead();
    this.#turnBytes += count;
    if (own === undefined || this.#isQuiet) {
      this.#onBytes(Buffer.from(buffer.subarray(0, count)));
      this.#leave();
      return (this.#turnBytes < BUSY_BYTES ? undefined : this.#take()) ?? landing;
    }
    this.#filled += count;
    if (own.length - this.#filled >= RECORD_BYTES) return own.subarray(this.#filled);
    this.handOn();
    if (this.#isHeld) linkBuffers.forget(own);
    else this.#full.push(own);
    return this.#take() ?? landing;
  }

  /** Hands on what was collected. */
  handOn(): void {
    const from = this.#handedOn;
    if (this.#own === undefined || from === this.#filled) return;
    this.#handedOn = this.#filled;
    this.#onBytes(this.#own.subarray(from, this.#filled));
  }

  /** Ends the turn; `isHeld` says whether somebody still holds what was handed on in it. */
  endTurn(isHeld: boolean): void {
    if (this.#turnBytes === 0) return;
    for (const buffer of this.#full) {
      if (isHeld) linkBuffers.forget(buffer);
      else linkBuffers.give(buffer);
    }
    this.#full.length = 0;
    this.#isHeld ||= isHeld;
    this.#isQuiet = this.#turnBytes < BUSY_BYTES;
    this.#turnBytes = 0;
  }

  #take(): Buffer | undefined {
    this.#own = linkBuffers.take();
    this.#isQuiet = false;
    this.#filled = 0;
    this.#handedOn = 0;
    this.#isHeld = false;
    return this.#own;
  }

  #leave(): void {
    const own = this.#own;
    if (own === undefined) return;
    this.#own = undefined;
    if (this.#isHeld) linkBuffers.forget(own);
    else linkBuffers.give(own);
  }

  /** What the last turn handed on may still be held, so that nothing serves again. */
  readonly #onClose = (): void => {
    for (const buffer of this.#full.splice(0)) linkBuffers.forget(buffer);
    this.#isHeld = true;
    this.#leave();
  };
}
