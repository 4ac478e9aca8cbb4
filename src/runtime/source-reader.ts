import type { Duplex } from 'node:stream';
import { BufferPool } from './buffer-pool.ts';
import { type ReadTarget, SocketReads } from './socket-reads.ts';

/** What one read of a busy socket takes at most. */
export const READ_BYTES = 256 * 1024;
/** Up to here a read is copied out at once, so that a small chunk never keeps a large buffer. */
const SMALL_READ_BYTES = 16 * 1024;
/** Buffers that the process's busy sockets have at one time: 64 MiB. */
const MAX_READ_BUFFERS = 256;

/** Where sockets read that have no buffer of their own: emptied before anything else can read. */
const landing = Buffer.allocUnsafeSlow(64 * 1024);
export const readBuffers = new BufferPool(READ_BYTES, MAX_READ_BUFFERS);

/** Gives back the buffer of a chunk that a `SourceReader` handed out, once nobody reads it any more. */
export const giveChunk = (chunk: Buffer): void => readBuffers.give(chunk);

/**
 * Reads a socket in chunks that the receiver owns and gives back with `giveChunk`. A socket that is busy reads into
 * warm buffers of a pool; one that is not has none, so that idle sockets cost nothing.
 */
export class SourceReader implements ReadTarget {
  readonly #socket: Duplex;
  readonly #onChunk: (chunk: Buffer) => void;
  readonly #reads: SocketReads | undefined;
  #own: Buffer | undefined;
  #watchesClose = false;

  /** Reads from the next `resume` of the socket on. */
  constructor(socket: Duplex, onChunk: (chunk: Buffer) => void) {
    this.#socket = socket;
    this.#onChunk = onChunk;
    // What the socket had read before comes by 'data' in any case, and first.
    socket.on('data', onChunk);
    this.#reads = SocketReads.of(socket, landing);
    if (this.#reads !== undefined) this.#reads.target = this;
  }

  /** Lets go of the socket: what it reads from now on comes by 'data' to whoever listens. */
  stop(): void {
    this.#socket.off('data', this.#onChunk);
    if (this.#reads?.target === this) this.#reads.target = undefined;
  }

  read(count: number, buffer: Buffer): Buffer {
    const isOwn = buffer === this.#own;
    const isSmall = count <= SMALL_READ_BYTES;
    if (isOwn && !isSmall) this.#own = undefined;
    this.#onChunk(isOwn && !isSmall ? buffer.subarray(0, count) : Buffer.from(buffer.subarray(0, count)));
    if (isSmall) this.#giveOwn();
    else this.#takeOwn();
    return this.#own ?? landing;
  }

  #takeOwn(): void {
    this.#own = readBuffers.take();
    if (this.#own === undefined || this.#watchesClose) return;
    this.#watchesClose = true;
    this.#socket.once('close', () => this.#giveOwn());
  }

  #giveOwn(): void {
    if (this.#own !== undefined) readBuffers.give(this.#own);
    this.#own = undefined;
  }
}
