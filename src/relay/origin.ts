import type { Socket } from 'node:net';
import { canonicalAddress } from '../runtime/index.ts';

/** Where a connection comes from, below HTTP. */
export interface Origin {
  /** Who opened the TCP connection: what limits count by when nobody says more. */
  readonly peer: string;
  /** Whom it comes from: the peer, or the source of its PROXY header; undefined when the proxy did not say. */
  readonly from: string | undefined;
}

/** Stands for the peer of a socket that is gone. */
const UNKNOWN_PEER = 'unknown';

/** The peer of a connection in canonical form. */
export const peerOf = (socket: Socket): string =>
  canonicalAddress(socket.remoteAddress ?? '') ?? UNKNOWN_PEER;

/** A TLS socket does not show the socket below it, but has its four ends; no two live connections share them. */
export const endsOf = (socket: Socket): string =>
  [socket.remoteAddress, socket.remotePort, socket.localAddress, socket.localPort].join(' ');

/** What PROXY headers said of connections that live. */
export class Origins {
  readonly #told = new Map<string, Origin>();

  /** Connections that a header came on. */
  get size(): number {
    return this.#told.size;
  }

  /** Keeps what a header said until the socket closes. */
  tell(socket: Socket, origin: Origin): void {
    const ends = endsOf(socket);
    this.#told.set(ends, origin);
    // The same ends may have a new connection before the old one's close is told.
    socket.once('close', () => {
      if (this.#told.get(ends) === origin) this.#told.delete(ends);
    });
  }

  /** The origin of a connection, or of the TLS over it. */
  of(socket: Socket): Origin {
    const told = this.#told.get(endsOf(socket));
    if (told !== undefined) return told;
    const peer = peerOf(socket);
    return { peer, from: peer === UNKNOWN_PEER ? undefined : peer };
  }
}
