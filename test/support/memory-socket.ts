import { Duplex } from 'node:stream';

/** What a TCP socket is to our code, without a network: half-open capable, and it can be reset. */
export class MemorySocket extends Duplex {
  other: MemorySocket | undefined;
  readonly remoteAddress = undefined;
  readonly remotePort = undefined;
  bytesRead = 0;
  bytesWritten = 0;

  constructor() {
    super({ allowHalfOpen: true });
    this.on('error', () => undefined);
  }

  override _read(): void {
    // Pushed by the other end.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, taken: () => void): void {
    const { other } = this;
    this.bytesWritten += chunk.length;
    if (other !== undefined && !other.destroyed) {
      other.bytesRead += chunk.length;
      other.push(Buffer.from(chunk));
    }
    setImmediate(taken);
  }

  override _final(done: () => void): void {
    if (this.other?.destroyed === false) this.other.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const { other } = this;
    if (other?.destroyed === false) setImmediate(() => other.destroy());
    done(error);
  }

  resetAndDestroy(): this {
    return this.destroy();
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  setTimeout(): this {
    return this;
  }
}

/** Two ends of one connection. */
export const memorySockets = (): { near: MemorySocket; far: MemorySocket } => {
  const [near, far] = [new MemorySocket(), new MemorySocket()];
  near.other = far;
  far.other = near;
  return { near, far };
};
