import { ByteQueue } from './byte-queue.ts';
import { FLAG_FIN, FRAME, HEADER_BYTES, SEND_QUEUE_BYTES } from './constants.ts';
import { writeHeader } from './frame-header.ts';

const NOT_BLOCKED = -1;

/** One direction of a stream, from its socket to the link: what waits, what was sent, what may be sent. */
export class Outflow {
  readonly #queue = new ByteQueue();
  /** What was sent before ACCEPT, kept until the answer: a refused opener gets it back. */
  #early: Buffer[] = [];
  #isEarly = true;
  #sent = 0;
  #limit: number;
  #consumed = 0;
  #ended = false;
  #finSent = false;
  #finAcknowledged = false;
  #blockedAt = NOT_BLOCKED;

  /** `limit`: payload bytes that may be sent now, absolute. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get queuedBytes(): number {
    return this.#queue.length;
  }

  get sentBytes(): number {
    return this.#sent;
  }

  /** Bytes that the far end's socket has taken, as far as it said. */
  get consumedBytes(): number {
    return this.#consumed;
  }

  /** No more will be queued. */
  get isEnded(): boolean {
    return this.#ended;
  }

  get finSent(): boolean {
    return this.#finSent;
  }

  get finAcknowledged(): boolean {
    return this.#finAcknowledged;
  }

  /** Data waits and credit does not allow it. */
  get isBlocked(): boolean {
    return this.#queue.length > 0 && this.#sent >= this.#limit;
  }

  /** Data and credit, or a FIN with nothing before it. */
  get isReady(): boolean {
    if (this.#queue.length > 0) return this.#sent < this.#limit;
    return this.#ended && !this.#finSent;
  }

  /** Whether the source may be read: little enough waits, and before ACCEPT no more than may be sent. */
  get hasRoom(): boolean {
    if (this.#isEarly) return this.#queue.length + this.#sent < this.#limit;
    return this.#queue.length < SEND_QUEUE_BYTES;
  }

  /** Whether a source that was paused may be read again: half is gone, so that it is not paused at the next read. */
  get hasRoomAgain(): boolean {
    return this.#isEarly ? this.hasRoom : this.#queue.length < SEND_QUEUE_BYTES / 2;
  }

  /** Takes ownership of the chunk. */
  push(chunk: Buffer): void {
    this.#queue.push(chunk);
  }

  end(): void {
    this.#ended = true;
  }

  /** The stream is accepted: the peer's window is open, up to `limit`. */
  open(limit: number = this.#limit): void {
    this.#isEarly = false;
    this.#early = [];
    // A peer cannot take back what early data has used already.
    this.#limit = Math.max(limit, this.#sent);
  }

  /** True once for each limit that was run into. Before ACCEPT the limit is a rule, not a window to grow. */
  noteBlocked(): boolean {
    if (this.#isEarly || !this.isBlocked || this.#blockedAt === this.#sent) return false;
    this.#blockedAt = this.#sent;
    return true;
  }

  /** Whether anything advanced, or `undefined` for a CREDIT that cannot be true. */
  credit(limit: number, consumed: number, fin: boolean): boolean | undefined {
    if (this.#isEarly || consumed > this.#sent || (fin && !this.#finSent)) return undefined;
    const advanced = consumed > this.#consumed || limit > this.#limit || (fin && !this.#finAcknowledged);
    this.#consumed = Math.max(consumed, this.#consumed);
    this.#limit = Math.max(limit, this.#limit);
    if (fin) this.#finAcknowledged = true;
    return advanced;
  }

  /** Writes one DATA frame of at most `maxBytes`, header included, and answers its length. */
  writeData(into: Buffer, at: number, maxBytes: number, number: number): number {
    const count = Math.min(maxBytes - HEADER_BYTES, this.#queue.length, this.#limit - this.#sent);
    const start = at + HEADER_BYTES;
    if (count > 0) this.#queue.moveTo(into, start, count);
    const fin = this.#ended && this.#queue.length === 0;
    writeHeader(into, at, FRAME.DATA, fin ? FLAG_FIN : 0, count, number, this.#sent);
    this.#sent += count;
    if (fin) this.#finSent = true;
    if (this.#isEarly && count > 0) this.#early.push(Buffer.from(into.subarray(start, start + count)));
    return HEADER_BYTES + count;
  }

  /** Everything that was pushed and is not known to have been wanted. */
  takeBack(): Buffer {
    return Buffer.concat([...this.#early, this.#queue.takeAll()]);
  }

  clear(): void {
    this.#queue.clear();
    this.#early = [];
  }
}
