import { AppError, CLOSE_REASON, type CloseReason } from '../../runtime/index.ts';
import { FLAG_MOVABLE, FRAME } from './constants.ts';
import { encodeFrame } from './frame-header.ts';
import type { OpeningsHost } from './gateway-openings.ts';
import { decodeOpen, encodeAccept, encodeRefuse } from './messages.ts';
import { PendingOpen, type RefuseInfo } from './pending-open.ts';
import { Stream } from './stream.ts';
import type { IncomingOpen, OpenMeta, RecentIdSet, SessionPeer } from './types.ts';

/** The agent's side of opening: turns OPEN into a pending open, and its answer into ACCEPT or REFUSE. */
export class AgentOpenings {
  readonly #peer: SessionPeer;
  readonly #host: OpeningsHost;
  readonly #recentIds: RecentIdSet;
  readonly #onOpen: ((incoming: IncomingOpen) => void) | undefined;

  constructor(
    peer: SessionPeer,
    host: OpeningsHost,
    recentIds: RecentIdSet,
    onOpen: ((incoming: IncomingOpen) => void) | undefined,
  ) {
    this.#peer = peer;
    this.#host = host;
    this.#recentIds = recentIds;
    this.#onOpen = onOpen;
  }

  /** OPEN came, beside `streamCount` streams that are open. */
  open(number: number, sendLimit: number, payload: Buffer, streamCount: number): void {
    const { early, window, streams } = this.#peer.ownHello.limits;
    const meta = decoded(payload);
    if (meta === undefined) this.#refuseUnheard(number, 'protocol_error', false);
    else if (this.#onOpen === undefined) this.#refuseUnheard(number, 'internal', false);
    else if (streamCount >= streams) this.#refuseUnheard(number, 'overloaded', true);
    else if (!this.#recentIds.add(meta.id)) this.#refuseUnheard(number, 'protocol_error', false);
    else {
      const stream = new Stream(this.#host.streamHost, number, meta.id, {
        send: sendLimit,
        receive: early,
        window,
      });
      this.#host.add(stream);
      this.#onOpen(this.#pending(meta, stream));
    }
  }

  #pending(meta: OpenMeta, stream: Stream): PendingOpen {
    const { number } = stream;
    const pending = new PendingOpen(meta, stream, {
      accepted: (decisionId, receiveLimit) => {
        this.#host.message(encodeFrame(FRAME.ACCEPT, 0, number, receiveLimit, encodeAccept(decisionId)));
      },
      refused: (code, info) => {
        this.#refuse(number, code, info);
        stream.release();
      },
    });
    stream.onEnd = (end) => pending.abort(end.reason);
    return pending;
  }

  #refuseUnheard(number: number, code: CloseReason, movable: boolean): void {
    // The opener may send early data before it hears that nobody wants it.
    this.#host.expectLate(this.#peer.ownHello.limits.early);
    this.#refuse(number, code, { movable });
  }

  #refuse(number: number, code: CloseReason, info: RefuseInfo): void {
    const flags = info.movable ? FLAG_MOVABLE : 0;
    this.#host.message(
      encodeFrame(FRAME.REFUSE, flags, number, CLOSE_REASON[code], encodeRefuse(code, info)),
    );
  }
}

/** The OPEN, or `undefined` for one that makes no sense. */
const decoded = (payload: Buffer): OpenMeta | undefined => {
  try {
    return decodeOpen(payload);
  } catch (error) {
    if (error instanceof AppError) return undefined;
    throw error;
  }
};
