import type { Duplex } from 'node:stream';

/** A byte stream over a connection that can be reset: a TCP socket, or what carries bytes over one. */
export interface ResettableStream extends Duplex {
  /** Ends the TCP connection under it with RST. */
  resetAndDestroy(): unknown;
}

/** Ends a TCP connection with RST: its far end sees a reset and not an orderly end, and the kernel's queue is discarded. */
export const resetSocket = (socket: ResettableStream): void => {
  if (socket.destroyed) return;
  // libuv refuses a reset while a shutdown is on its way (EINVAL), and the handle would leak.
  if (socket.writableEnded && !socket.writableFinished) socket.destroy();
  else socket.resetAndDestroy();
};
