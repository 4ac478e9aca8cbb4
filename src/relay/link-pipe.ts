import type { Side } from '../protocol/index.ts';
import type { ResettableStream } from '../runtime/index.ts';

/** How a pipe came to its end. */
export type PipeEnd =
  /** That side's carrier was closed in good order. */
  | { readonly kind: 'ended'; readonly side: Side }
  /** That side's carrier broke. */
  | { readonly kind: 'broken'; readonly side: Side }
  | { readonly kind: 'silent' }
  | { readonly kind: 'stuck' }
  /** What carried it is gone. */
  | { readonly kind: 'lost' }
  | { readonly kind: 'cut' };

/** The two carriers of a data link, joined: in this process, or in a pipe worker. */
export interface LinkPipe {
  /** Bytes copied from gateway to agent. */
  readonly bytesUp: number;
  /** Bytes copied from agent to gateway. */
  readonly bytesDown: number;
  /** Bytes that were read and wait to be written, both directions. */
  readonly waitingBytes: number;
  /** Starts copying; the heads are what was read of each side before, and go first. */
  start(gatewayHead: Buffer, agentHead: Buffer): void;
  /**
   * Stops reading both sockets, drops the queues and resets both.
   *
   * @returns undefined when that has happened, else what resolves once no byte moves any more and the counts are final;
   *   it never rejects
   */
  cut(): Promise<void> | undefined;
  /** About once a second, monotonic. */
  tick(nowMs: number): void;
}

/**
 * Joins two carriers, which are the pipe's from then on.
 *
 * @param nowMs monotonic
 * @param onEnd once, when both sockets are closed and the counts are final; for `cut` before or after it returns
 */
export type JoinCarriers = (
  gateway: ResettableStream,
  agent: ResettableStream,
  nowMs: number,
  onEnd: (end: PipeEnd) => void,
) => LinkPipe;
