import type { Socket } from 'node:net';
import type { CloseReason } from '../runtime/index.ts';

/** Why no stream came of an application's connection. */
export interface RefusedStream {
  readonly reason: CloseReason;
  readonly streamId: string;
  readonly detail: string | undefined;
  readonly decisionId: string | undefined;
  /** The target itself answered the dial, with a refusal. */
  readonly isDialRefused: boolean;
}

/** An application's connection, and how it is told what became of it. */
export interface Application {
  /** Paused, half-open-capable, without listeners but for its errors. */
  readonly socket: Socket;
  /** What has been read of the stream already. */
  readonly early: Buffer;
  /** What `OPEN.claimed.label` says; undefined for a listener of the connection's own. */
  readonly label: string | undefined;
  /** Whether it is told why it is refused; else its socket is reset as fast as that is known. */
  readonly isTold: boolean;
  /** The stream is open: says so before the first byte of the target. */
  accepted(streamId: string): void;
  /** Says why there is no stream, and ends the socket. Called at most once, and never after `accepted`. */
  refused(refused: RefusedStream): void;
}

const NOTHING = Buffer.alloc(0);

/** An application at a listener of its connection's own: it speaks to the target from its first byte on. */
export const plainApplication = (socket: Socket): Application => ({
  socket,
  early: NOTHING,
  label: undefined,
  isTold: false,
  accepted: () => undefined,
  refused: () => {
    socket.resetAndDestroy();
  },
});
