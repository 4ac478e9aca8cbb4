import { Duplex } from 'node:stream';
import type { RawData, WebSocket } from 'ws';

/** The most that one message holds; a longer one ends the carrier. */
export const MAX_CARRIER_MESSAGE_BYTES = 64 * 1024;
/** A message without bytes: its direction has ended. */
const END = Buffer.alloc(0);
/** What is read ahead of, and written behind, whoever uses the carrier. */
const HIGH_WATER_MARK_BYTES = 256 * 1024;
const CLOSE_NORMAL = 1000;

/**
 * The bytes of a data link in binary messages of a WebSocket: what a TCP connection would carry, cut anywhere. An empty
 * message ends a direction, as a FIN does.
 */
export class WebSocketCarrier extends Duplex {
  /** Bytes of messages so far, as the other end of the WebSocket counts them. */
  bytesRead = 0;
  bytesWritten = 0;
  readonly #socket: WebSocket;
  readonly #reset: () => void;
  #hasEnded = false;

  /**
   * @param socket open, in the tick in which it opened: no message may be missed
   * @param reset resets the TCP connection under it
   */
  constructor(socket: WebSocket, reset: () => void) {
    super({ highWaterMark: HIGH_WATER_MARK_BYTES, allowHalfOpen: true });
    this.#socket = socket;
    this.#reset = reset;
    socket.binaryType = 'nodebuffer';
    // Stays: whoever owns the carrier next adds its own, and no error ends the process.
    this.on('error', () => undefined);
    socket.on('message', (data: RawData, isBinary) => this.#receive(data as Buffer, isBinary));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => {
      if (!this.#hasEnded) this.destroy(new Error('the WebSocket was closed'));
      else if (!this.writableFinished) this.destroy();
    });
  }

  override _read(): void {
    if (this.#socket.isPaused) this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, taken: (error?: Error | null) => void): void {
    this.bytesWritten += chunk.length;
    let from = 0;
    for (; chunk.length - from > MAX_CARRIER_MESSAGE_BYTES; from += MAX_CARRIER_MESSAGE_BYTES)
      this.#socket.send(chunk.subarray(from, from + MAX_CARRIER_MESSAGE_BYTES));
    this.#socket.send(from === 0 ? chunk : chunk.subarray(from), taken);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.send(END, done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.#hasEnded && this.writableFinished) this.#socket.close(CLOSE_NORMAL);
    else this.#socket.terminate();
    done(error);
  }

  /** Resets the TCP connection under the WebSocket. */
  resetAndDestroy(): this {
    this.#reset();
    return this.destroy();
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (this.#hasEnded || !isBinary) {
      this.destroy(new Error(this.#hasEnded ? 'a message came behind the last one' : 'a text message came'));
      return;
    }
    if (data.length === 0) {
      this.#hasEnded = true;
      this.push(null);
      return;
    }
    this.bytesRead += data.length;
    if (!this.push(data)) this.#socket.pause();
  }
}
