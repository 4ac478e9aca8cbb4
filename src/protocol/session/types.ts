import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock, CloseReason } from '../../runtime/index.ts';

/** Bounds that one end announces for what it is sent. Sizes in bytes, counts in streams. */
export interface HelloLimits {
  /** Longest frame, header included. */
  readonly frame: number;
  /** Receive window that a stream starts with. */
  readonly window: number;
  /** Streams open at one time. */
  readonly streams: number;
  /** Early data per stream before ACCEPT. */
  readonly early: number;
  /** Longest JSON payload of OPEN. */
  readonly meta: number;
}

/** Payload of HELLO, the first frame each way; field names are wire format. */
export interface Hello {
  readonly v: 1;
  readonly role: 'gateway' | 'agent';
  readonly namespace: string;
  readonly connection: string;
  readonly link_id: string;
  readonly name: string;
  readonly instance: string;
  readonly session_id: string;
  readonly epoch: number;
  readonly secret: string;
  readonly limits: HelloLimits;
  readonly features: readonly string[];
  readonly build: string;
}

/** Payload of OPEN. Text from the wire arrives cleaned (well-formed, no NUL, length-capped). */
export interface OpenMeta {
  /** UUIDv7 made by the gateway; unique among live streams and the last 65,536. */
  readonly id: string;
  /** 1 for the first try, 2 for the one retry through another agent. */
  readonly attempt: number;
  readonly kind: 'tcp';
  readonly parent?: string;
  /** What the gateway says of its client: a claim, never a fact. */
  readonly claimed: { readonly address?: string; readonly port?: number; readonly label?: string };
  readonly ext: Readonly<Record<string, unknown>>;
}

/** How a stream ended. `up` is gateway to agent, `down` agent to gateway, in payload bytes. */
export interface StreamEnd {
  readonly reason: CloseReason;
  /** The wire number: differs from `CLOSE_REASON[reason]` when the peer sent one that we do not know. */
  readonly reasonNumber: number;
  readonly bytesUp: number;
  readonly bytesDown: number;
  /** Wall clock at OPEN, milliseconds since the Unix epoch. */
  readonly openedMs: number;
  readonly durationMs: number;
  /** True when the link died under the stream. */
  readonly linkEnded: boolean;
}

/** One live stream as its owner sees it. */
export interface SessionStream {
  /** Number on its link; evidence keys on `(link_id, number)`. */
  readonly number: number;
  /** `OPEN.id`. */
  readonly id: string;
  readonly bytesUp: number;
  readonly bytesDown: number;
  /** Sends RESET with the reason and resets the socket; nothing when already ended. */
  reset(reason: CloseReason): void;
}

/** REFUSE, or a GOAWAY that does not serve the stream. */
export interface Refusal {
  readonly code: CloseReason;
  readonly codeNumber: number;
  /** True when another agent may be tried once. */
  readonly movable: boolean;
  readonly decision_id?: string;
  readonly retry_after_ms?: number;
  /** True when the target itself answered the dial, with a refusal. */
  readonly dial_refused?: boolean;
  /** Everything read from the socket so far, in order; the caller owns it. */
  readonly early: Buffer;
}

/** What an opener hears. Exactly one of `onRefuse` and `onEnd` is called, and once. */
export interface OpenHandlers {
  /**
   * True for an opener that has a word to say to its application: when the stream ends without ACCEPT (RESET, or the link
   * died) the socket is handed back before `onEnd`, as by a refusal, and not reset.
   */
  readonly keepsSocket?: boolean;
  onAccept(info: { readonly decision_id: string }): void;
  /** The socket is handed back paused, without any listener of the session. */
  onRefuse(refusal: Refusal): void;
  /**
   * After ACCEPT, or without it when the stream was reset or the link died; the socket is done for then, unless
   * `keepsSocket` kept it.
   */
  onEnd(end: StreamEnd): void;
}

/** An OPEN that waits for the agent's answer. Early data is held meanwhile, at most `limits.early` bytes. */
export interface IncomingOpen {
  readonly meta: OpenMeta;
  readonly number: number;
  /** True once the opener or the link went away, or an answer was given. */
  readonly aborted: boolean;
  /** Called once if the opener or the link goes away before an answer. */
  onAbort(call: (reason: CloseReason) => void): void;
  /**
   * Sends ACCEPT, writes the early data to the socket and splices it from now on. The socket must be paused
   * and `allowHalfOpen`. On an aborted open the socket is reset and `onEnd` is called.
   */
  accept(
    socket: Socket,
    info: { readonly decision_id: string },
    onEnd: (end: StreamEnd) => void,
  ): SessionStream;
  /** Sends REFUSE and drops the early data; nothing when aborted. */
  refuse(
    code: CloseReason,
    info: {
      readonly movable: boolean;
      readonly decision_id?: string;
      readonly retry_after_ms?: number;
      readonly dial_refused?: boolean;
    },
  ): void;
}

export interface SessionEnd {
  readonly reason: CloseReason;
  readonly detail?: string;
}

export interface GoAway {
  readonly code: CloseReason;
  readonly codeNumber: number;
  /** Milliseconds from now until remaining streams are cut. */
  readonly deadlineMs: number;
  /** Highest number of a stream of ours that the peer still serves. */
  readonly highest: number;
}

export interface SessionStats {
  readonly streams: number;
  /** Streams that have data and credit and wait for the link. */
  readonly waiting: number;
  /** Smoothed round trip, milliseconds; undefined before the first PONG. */
  readonly rttMs: number | undefined;
  /** Bytes of frames received and handed to the link. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** How often a stream with data ran out of credit. */
  readonly creditStalls: number;
  /** Payload bytes held now for sending, and those held for early data. */
  readonly queuedBytes: number;
  readonly earlyBytes: number;
}

/** The two ends of an established link; both HELLO have been exchanged, `leftover` is what came behind. */
export interface SessionPeer {
  readonly duplex: Duplex;
  readonly ownHello: Hello;
  readonly peerHello: Hello;
  readonly leftover: Buffer;
}

export interface SessionOptions {
  readonly clock: Clock;
  /** Agent side: answers each OPEN, at once or later. Without it every OPEN is refused. */
  readonly onOpen?: (incoming: IncomingOpen) => void;
  /** Shared by the sessions of a process so that an `OPEN.id` is unique over all of them. */
  readonly recentIds?: RecentIdSet;
  /** How long both FINs may wait without a byte of progress; default `LINGER_IDLE_MS`. */
  readonly lingerIdleMs?: number;
  /** How long a stream may wait for credit without any; default `BLOCKED_TIMEOUT_MS`. */
  readonly blockedTimeoutMs?: number;
}

/** Remembers ids; `add` answers false for one it holds. */
export interface RecentIdSet {
  add(id: string): boolean;
}

/** What holders of a session use; the class is made from an authenticated peer only. */
export interface SessionHandle {
  readonly streamCount: number;
  /** True when `open` would be served: alive, no GOAWAY either way, fewer streams than the peer's limit. */
  readonly openable: boolean;
  /**
   * Opens a stream and splices the socket into it. The socket must be paused and `allowHalfOpen`;
   * `early` (owned by the session from now on) goes before what the socket still holds.
   * @throws AppError ERR_SESSION_NOT_OPENABLE
   */
  open(meta: OpenMeta, socket: Socket, early: Buffer, handlers: OpenHandlers): SessionStream;
  /**
   * Gateway side: takes back a stream that has no answer yet. Its socket is handed back as by a refusal, the peer is told
   * with RESET, and none of its handlers is called.
   * @returns everything read from the socket so far; undefined when the stream has an answer or has ended
   */
  recall(stream: SessionStream, reason: CloseReason): Buffer | undefined;
  /** Sends a PING now, beside those of every 10 s; no answer is demanded for it. */
  ping(): void;
  /** No new streams from now on; ends the session when the last is done, or cuts them after `deadlineMs`. */
  goAway(code: CloseReason, deadlineMs: number): void;
  onGoAway(call: (goAway: GoAway) => void): void;
  /** Resets every socket and destroys the link at once; every stream ends with the reason. */
  destroy(reason: CloseReason, detail?: string): void;
  /** Called once; at once when the session has ended already. */
  onEnd(call: (end: SessionEnd) => void): void;
  stats(): SessionStats;
  streams(): SessionStream[];
}
