import type { Socket } from 'node:net';

/** Ends a TCP socket with RST: its far end sees a reset and not an orderly end, and the kernel's queue is discarded. */
export const resetSocket = (socket: Socket): void => {
  if (socket.destroyed) return;
  // libuv refuses a reset while a shutdown is on its way (EINVAL), and the handle would leak.
  if (socket.writableEnded && !socket.writableFinished) socket.destroy();
  else socket.resetAndDestroy();
};
