import { AuthenticatedPeer } from '../link/authenticated-peer.ts';
import { SessionCore } from './session-core.ts';
import type { SessionOptions } from './types.ts';

/** The session of a data link. It can be made from nothing but an authenticated peer. */
export class Session extends SessionCore {
  readonly peer: AuthenticatedPeer;

  constructor(peer: AuthenticatedPeer, options: SessionOptions) {
    if (!(peer instanceof AuthenticatedPeer)) throw new TypeError('a session needs an authenticated peer');
    super(peer, options);
    this.peer = peer;
  }
}
