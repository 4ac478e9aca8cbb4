/** Buffers of one size, used again while they are warm in the processor's caches. */
export class BufferPool {
  readonly bufferBytes: number;
  readonly #most: number;
  readonly #spare: Buffer[] = [];
  readonly #wholes = new WeakMap<ArrayBufferLike, Buffer>();
  #outside = 0;

  /** `most`: buffers that may be outside at one time. */
  constructor(bufferBytes: number, most: number) {
    this.bufferBytes = bufferBytes;
    this.#most = most;
  }

  /** Buffers taken and not given back. */
  get outsideCount(): number {
    return this.#outside;
  }

  /** A buffer of unspecified content; `undefined` when too many are outside. */
  take(): Buffer | undefined {
    if (this.#outside >= this.#most) return undefined;
    this.#outside += 1;
    const spare = this.#spare.pop();
    if (spare !== undefined) return spare;
    const fresh = Buffer.allocUnsafeSlow(this.bufferBytes);
    this.#wholes.set(fresh.buffer, fresh);
    return fresh;
  }

  /** Takes back the buffer that the bytes are part of, once nobody reads it any more; others' bytes are ignored. */
  give(part: Buffer): void {
    const whole = this.#wholes.get(part.buffer);
    if (whole === undefined) return;
    this.#outside -= 1;
    this.#spare.push(whole);
  }

  /** Counts it as back and leaves it to the collector: somebody still reads it. */
  forget(part: Buffer): void {
    if (this.#wholes.delete(part.buffer)) this.#outside -= 1;
  }
}
