import type { Socket } from 'node:net';

interface NativeHandle {
  getpeername?(into: object): number;
}

/**
 * Whether an 'end' was in truth a reset. libuv reports EOF when a RST arrives behind bytes that were not read yet,
 * because the poll says hang-up before `read` could say ECONNRESET: an upload that was broken off would look
 * complete. The kernel knows: a connection that was reset has no peer any more, one that got a FIN has.
 * After our own FIN an orderly end leaves no peer either, so then it answers false.
 */
export const endedByReset = (socket: Socket): boolean => {
  if (socket.writableEnded) return false;
  // `remoteAddress` would answer from its cache; only the handle asks the kernel.
  const handle = (socket as Socket & { readonly _handle?: NativeHandle | null })._handle;
  const status = handle?.getpeername?.({});
  return status !== undefined && status < 0;
};
