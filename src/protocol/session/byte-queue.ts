import { giveChunk } from '../../runtime/index.ts';

/** Chunks in order, copied out once; a chunk goes back to where it was read into when it is used up. */
export class ByteQueue {
  #chunks: Buffer[] = [];
  /** Index of the first chunk not yet used up, and how much of it is used. */
  #first = 0;
  #used = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Takes ownership of the chunk. */
  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** Moves exactly `count` bytes, at most `length`, into `into`. */
  moveTo(into: Buffer, at: number, count: number): void {
    this.#length -= count;
    let missing = count;
    while (missing > 0) {
      const chunk = this.#chunks[this.#first];
      if (chunk === undefined) throw new RangeError(`queue is short of ${missing} bytes`);
      const take = Math.min(chunk.length - this.#used, missing);
      chunk.copy(into, at + count - missing, this.#used, this.#used + take);
      missing -= take;
      this.#used += take;
      if (this.#used < chunk.length) continue;
      giveChunk(chunk);
      this.#dropFirst();
    }
  }

  /** Everything that is left, joined; the queue is empty afterwards. */
  takeAll(): Buffer {
    const all = Buffer.allocUnsafe(this.#length);
    if (all.length > 0) this.moveTo(all, 0, all.length);
    return all;
  }

  clear(): void {
    for (const chunk of this.#chunks.slice(this.#first)) giveChunk(chunk);
    this.#chunks = [];
    this.#first = 0;
    this.#used = 0;
    this.#length = 0;
  }

  #dropFirst(): void {
    this.#used = 0;
    this.#first += 1;
    if (this.#first === this.#chunks.length) {
      this.#chunks.length = 0;
      this.#first = 0;
    } else if (this.#first === COMPACT_AFTER) {
      this.#chunks = this.#chunks.slice(this.#first);
      this.#first = 0;
    }
  }
}

/** Used-up chunks kept in front of the array before it is cut. */
const COMPACT_AFTER = 32;
