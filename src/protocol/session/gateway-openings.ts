import type { Socket } from 'node:net';
import { AppError, type CloseReason, closeReasonOf } from '../../runtime/index.ts';
import { FRAME } from './constants.ts';
import type { SessionErrorCode } from './errors.ts';
import { encodeFrame } from './frame-header.ts';
import { decodeAccept, decodeRefuse, encodeOpen } from './messages.ts';
import { Stream, type StreamHost } from './stream.ts';
import type { GoAway, OpenHandlers, OpenMeta, Refusal, SessionPeer, SessionStream } from './types.ts';

export interface OpeningsHost {
  readonly streamHost: StreamHost;
  add(stream: Stream): void;
  message(frame: Buffer): void;
  /** Bytes that may still come for a stream that this end does not serve. */
  expectLate(bytes: number): void;
}

/** The gateway's side of opening: streams that wait for ACCEPT or REFUSE, with their handlers. */
export class GatewayOpenings {
  readonly #peer: SessionPeer;
  readonly #host: OpeningsHost;
  readonly #waiting = new Map<Stream, OpenHandlers>();

  constructor(peer: SessionPeer, host: OpeningsHost) {
    this.#peer = peer;
    this.#host = host;
  }

  /** @throws AppError ERR_SESSION_FRAME_INVALID when the peer takes no OPEN of this length. */
  open(number: number, meta: OpenMeta, socket: Socket, early: Buffer, handlers: OpenHandlers): Stream {
    const payload = encodeOpen(meta);
    const { meta: metaBytes, early: earlyBytes } = this.#peer.peerHello.limits;
    if (payload.length > metaBytes) {
      throw new AppError<SessionErrorCode>(
        'ERR_SESSION_FRAME_INVALID',
        `open has ${payload.length} bytes, limit is ${metaBytes}`,
      );
    }
    const { window } = this.#peer.ownHello.limits;
    const stream = new Stream(this.#host.streamHost, number, meta.id, {
      send: earlyBytes,
      receive: window,
      window,
    });
    stream.onEnd = (end) => handlers.onEnd(end);
    stream.keepsSocket = handlers.keepsSocket === true;
    this.#host.add(stream);
    this.#waiting.set(stream, handlers);
    this.#host.message(encodeFrame(FRAME.OPEN, 0, number, window, payload));
    stream.attach(socket, early);
    return stream;
  }

  /** ACCEPT came. */
  accept(stream: Stream, sendLimit: number, payload: Buffer): void {
    const handlers = this.#waiting.get(stream);
    const info = orUndefined(() => decodeAccept(payload));
    if (handlers === undefined || info === undefined) {
      stream.reset('protocol_error');
      return;
    }
    this.#waiting.delete(stream);
    handlers.onAccept(info);
    if (!stream.isEnded) stream.accepted(sendLimit);
  }

  /** REFUSE came. */
  refuse(stream: Stream, movable: boolean, codeNumber: number, payload: Buffer): void {
    const handlers = this.#waiting.get(stream);
    const message = orUndefined(() => decodeRefuse(payload));
    if (handlers === undefined || message === undefined) {
      stream.reset('protocol_error');
      return;
    }
    this.#handBack(stream, handlers, { code: closeReasonOf(codeNumber), codeNumber, movable, ...message });
  }

  /** GOAWAY came: what it does not serve is handed back. */
  takeBack(goAway: GoAway): void {
    const { code, codeNumber, highest } = goAway;
    for (const [stream, handlers] of [...this.#waiting]) {
      if (stream.number > highest) this.#handBack(stream, handlers, { code, codeNumber, movable: true });
    }
  }

  /** Takes back a stream that has no answer yet; `undefined` when it has one. */
  recall(stream: SessionStream, reason: CloseReason): Buffer | undefined {
    return stream instanceof Stream && this.#waiting.delete(stream) ? stream.recall(reason) : undefined;
  }

  forget(stream: Stream): void {
    this.#waiting.delete(stream);
  }

  #handBack(stream: Stream, handlers: OpenHandlers, refusal: Omit<Refusal, 'early'>): void {
    this.#waiting.delete(stream);
    handlers.onRefuse({ ...refusal, early: stream.release() });
  }
}

/** The value, or `undefined` for a payload that makes no sense. */
const orUndefined = <T>(decode: () => T): T | undefined => {
  try {
    return decode();
  } catch (error) {
    if (error instanceof AppError) return undefined;
    throw error;
  }
};
