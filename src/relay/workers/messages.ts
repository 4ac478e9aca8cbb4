import type { Side } from '../../protocol/index.ts';
import type { PipeEnd } from '../link-pipe.ts';

/** Bytes copied up and down, and waiting, of one pipe of a worker. */
export interface PipeCounts {
  readonly id: number;
  readonly up: number;
  readonly down: number;
  readonly waiting: number;
}

/** What the relay node tells a pipe worker. Messages of one worker arrive in order, sockets included. */
export type ToWorker =
  /** A carrier, with what was read of it. The pipe starts when both of its carriers are there. */
  | { readonly t: 'carrier'; readonly id: number; readonly side: Side; readonly head: Uint8Array }
  | { readonly t: 'cut'; readonly ids: readonly number[] }
  /**
   * The node's sign of life, about once a second. A worker that hears none for `forMs` resets everything and ends: a
   * node that is frozen enforces no revocation and no fence. Before the first a worker carries nothing.
   */
  | { readonly t: 'alive'; readonly forMs: number };

/** What a pipe worker tells the relay node. */
export type FromWorker =
  | { readonly t: 'ready' }
  /** Once a second, even empty: the worker's sign of life. Pipes whose counts have changed. */
  | { readonly t: 'counts'; readonly pipes: readonly PipeCounts[] }
  /** No byte of this pipe moves any more, and these are its last counts. */
  | { readonly t: 'ended'; readonly end: PipeEnd; readonly last: PipeCounts };
