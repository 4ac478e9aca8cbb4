import type { Socket } from 'node:net';
import { endsOf } from './origin.ts';

/** The TCP sockets under TLS: Node does not show them, and only they can be reset. */
export class RawSockets {
  readonly #sockets = new Map<string, Socket>();

  /** Keeps a socket until it closes. */
  keep(socket: Socket): void {
    const ends = endsOf(socket);
    this.#sockets.set(ends, socket);
    // The same ends may have a new connection before the old one's close is told.
    socket.once('close', () => {
      if (this.#sockets.get(ends) === socket) this.#sockets.delete(ends);
    });
  }

  /** The socket under the TLS of a connection; undefined when it is closed. */
  under(secure: Socket): Socket | undefined {
    return this.#sockets.get(endsOf(secure));
  }
}
