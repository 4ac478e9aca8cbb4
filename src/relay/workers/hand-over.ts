import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { resetSocket } from '../../runtime/index.ts';
import type { ToWorker } from './messages.ts';

/** What of Node's native handle is needed: the socket must not read in this process while it is on its way. */
interface Handle {
  reading?: boolean;
  readStop?: () => unknown;
  reset?: () => unknown;
}

type WithHandle = Duplex & { readonly _handle?: Handle | null };

const handleOf = (socket: Duplex): Handle | undefined => (socket as WithHandle)._handle ?? undefined;

/** Whether this carrier can be handed over: a TCP socket that is alive, and this Node lets it stop reading. */
export const canHandOver = (socket: Duplex): socket is Socket =>
  !socket.destroyed && typeof handleOf(socket)?.readStop === 'function';

/** What the socket has read and nobody has taken. From here on it reads nothing. */
const takeRead = (socket: Socket): Buffer[] => {
  const pieces: Buffer[] = [];
  for (;;) {
    const piece = socket.read() as Buffer | null;
    if (piece === null) break;
    pieces.push(piece);
  }
  // After the last read(), which starts the handle again. Bytes that it read from here on would be lost: Node drops
  // what arrives at a handle that is being sent.
  const handle = handleOf(socket);
  if (handle !== undefined) {
    handle.reading = false;
    handle.readStop?.();
  }
  return pieces;
};

/**
 * Gives a paused socket to another process, with what was read of it. It is destroyed here once it is there; the
 * connection lives on.
 *
 * @param head read before, goes first
 * @param onFailure it could not be sent and was reset
 * @returns to be called when the other process is gone: resets the connection if it never got there
 */
export const handOver = (
  child: ChildProcess,
  carrier: Omit<Extract<ToWorker, { t: 'carrier' }>, 't' | 'head'>,
  socket: Socket,
  head: Buffer,
  onFailure: () => void,
): (() => void) => {
  const handle = handleOf(socket);
  const message: ToWorker = { t: 'carrier', ...carrier, head: Buffer.concat([head, ...takeRead(socket)]) };
  // Otherwise Node counts the connection as the server's for as long as the other process has it.
  Reflect.set(socket, 'server', undefined);
  child.send(message, socket, (error: Error | null) => {
    if (error === null) {
      socket.destroy();
      return;
    }
    resetSocket(socket);
    onFailure();
  });
  return () => {
    resetSocket(socket);
    // Node forgets a handle whose receiver dies before it has confirmed it: the connection would stay open for ever.
    // Harmless when the handle is closed.
    handle?.reset?.();
  };
};
