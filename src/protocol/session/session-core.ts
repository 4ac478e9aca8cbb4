import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import {
  AppError,
  CLOSE_REASON,
  type Clock,
  type CloseReason,
  closeReasonOf,
  isCloseReason,
  messageOf,
  type Timer,
} from '../../runtime/index.ts';
import { AgentOpenings } from './agent-openings.ts';
import {
  BLOCKED_TIMEOUT_MS,
  FLAG_FIN,
  FLAG_MOVABLE,
  FRAME,
  LAST_WORDS_MS,
  LINGER_IDLE_MS,
  MAX_PENDING_PONGS,
  MAX_STREAM_NUMBER,
} from './constants.ts';
import type { SessionErrorCode } from './errors.ts';
import { encodeFrame, readValue } from './frame-header.ts';
import { FrameReader, type FrameSink } from './frame-reader.ts';
import { GatewayOpenings, type OpeningsHost } from './gateway-openings.ts';
import { IdleFrames } from './idle-frames.ts';
import { LinkReader } from './link-reader.ts';
import { LinkWriter } from './link-writer.ts';
import { Liveness, type LivenessHost } from './liveness.ts';
import { decodeGoAway, encodeGoAway } from './messages.ts';
import { RecentIds } from './recent-ids.ts';
import type { Stream, StreamHost } from './stream.ts';
import type {
  GoAway,
  OpenHandlers,
  OpenMeta,
  SessionEnd,
  SessionHandle,
  SessionOptions,
  SessionPeer,
  SessionStats,
  SessionStream,
} from './types.ts';
import { linkBudget, windowCapFor } from './window-budget.ts';

/** A violation that ends the link. */
class LinkViolation extends Error {}

/**
 * Many streams over one duplex: frames, credit, fair writing, liveness. It trusts its peer with nothing: every
 * frame is checked, and a violation ends the stream or the link that it concerns.
 */
export class SessionCore implements SessionHandle {
  readonly #peer: SessionPeer;
  readonly #duplex: Duplex;
  readonly #clock: Clock;
  readonly #side: 'gateway' | 'agent';
  readonly #lingerIdleMs: number;
  readonly #blockedTimeoutMs: number;
  readonly #writer: LinkWriter<Stream>;
  readonly #frames: FrameReader;
  readonly #reader = new LinkReader(
    (bytes) => this.#onLinkData(bytes),
    () => this.#schedule(),
  );
  readonly #liveness: Liveness;
  readonly #idleFrames: IdleFrames;
  readonly #growth = linkBudget();
  readonly #gatewayOpenings: GatewayOpenings;
  readonly #agentOpenings: AgentOpenings;

  readonly #streams = new Map<number, Stream>();
  /** Highest stream number that either side has used. */
  #highest = 0;
  /** Bytes that may still come for streams that this end closed first. */
  #lateBytes = 0;
  #touched: Stream[] = [];
  #turnDue = false;
  /** The stream of the DATA frame that is being read; its payload is dropped when undefined. */
  #current: Stream | undefined;
  #currentFin = false;
  #pendingPongs = 0;

  #bytesIn = 0;
  #creditStalls = 0;

  #goAwaySent: { readonly code: CloseReason; readonly highest: number } | undefined;
  #goAwayReceived: GoAway | undefined;
  #goAwayTimer: Timer | undefined;
  #end: SessionEnd | undefined;
  #failing = false;
  readonly #endCalls: ((end: SessionEnd) => void)[] = [];
  readonly #goAwayCalls: ((goAway: GoAway) => void)[] = [];

  /** Takes over the duplex; frames are read from the next microtask on. */
  constructor(peer: SessionPeer, options: SessionOptions) {
    this.#peer = peer;
    this.#duplex = peer.duplex;
    this.#clock = options.clock;
    this.#side = peer.ownHello.role;
    this.#lingerIdleMs = options.lingerIdleMs ?? LINGER_IDLE_MS;
    this.#blockedTimeoutMs = options.blockedTimeoutMs ?? BLOCKED_TIMEOUT_MS;
    this.#writer = new LinkWriter<Stream>(peer.duplex, options.clock, peer.peerHello.limits.frame, () =>
      this.#linkTook(),
    );
    this.#frames = new FrameReader(peer.ownHello.limits.meta);
    this.#idleFrames = new IdleFrames(options.clock);
    const host = this.#openingsHost();
    this.#gatewayOpenings = new GatewayOpenings(peer, host);
    this.#agentOpenings = new AgentOpenings(peer, host, options.recentIds ?? new RecentIds(), options.onOpen);
    this.#liveness = new Liveness(options.clock, this.#livenessHost());
    peer.duplex.on('error', this.#onLinkError);
    peer.duplex.on('close', this.#onLinkGone);
    peer.duplex.on('end', this.#onLinkGone);
    queueMicrotask(() => {
      if (this.#end !== undefined) return;
      this.#liveness.start();
      if (peer.leftover.length > 0) this.#onLinkData(peer.leftover);
      this.#reader.start(peer.duplex);
      peer.duplex.resume();
    });
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  get openable(): boolean {
    return (
      this.#side === 'gateway' &&
      this.#end === undefined &&
      !this.#failing &&
      this.#goAwaySent === undefined &&
      this.#goAwayReceived === undefined &&
      this.#streams.size < this.#peer.peerHello.limits.streams &&
      this.#highest < MAX_STREAM_NUMBER
    );
  }

  open(meta: OpenMeta, socket: Socket, early: Buffer, handlers: OpenHandlers): SessionStream {
    if (!this.openable) {
      throw new AppError<SessionErrorCode>('ERR_SESSION_NOT_OPENABLE', 'session opens no stream', {
        retryable: true,
      });
    }
    return this.#gatewayOpenings.open(this.#highest + 1, meta, socket, early, handlers);
  }

  recall(stream: SessionStream, reason: CloseReason): Buffer | undefined {
    return this.#end === undefined ? this.#gatewayOpenings.recall(stream, reason) : undefined;
  }

  ping(): void {
    if (this.#end === undefined && !this.#failing) this.#liveness.ping();
  }

  goAway(code: CloseReason, deadlineMs: number): void {
    if (this.#end !== undefined || this.#failing || this.#goAwaySent !== undefined) return;
    const highest = this.#side === 'agent' ? this.#highest : 0;
    this.#goAwaySent = { code, highest };
    this.#message(encodeFrame(FRAME.GOAWAY, 0, 0, highest, encodeGoAway(code, deadlineMs)));
    this.#goAwayTimer = this.#clock.after(deadlineMs, () => {
      for (const stream of [...this.#streams.values()]) stream.reset(code);
      this.#schedule();
    });
  }

  onGoAway(call: (goAway: GoAway) => void): void {
    this.#goAwayCalls.push(call);
    if (this.#goAwayReceived !== undefined) call(this.#goAwayReceived);
  }

  destroy(reason: CloseReason, detail?: string): void {
    this.#finish(reason, detail);
    this.#duplex.destroy();
  }

  onEnd(call: (end: SessionEnd) => void): void {
    if (this.#end === undefined) this.#endCalls.push(call);
    else call(this.#end);
  }

  stats(): SessionStats {
    const streams = this.#streams;
    const sum = (bytesOf: (stream: Stream) => number): number => {
      let bytes = 0;
      for (const stream of streams.values()) bytes += bytesOf(stream);
      return bytes;
    };
    return {
      streams: streams.size,
      waiting: this.#writer.waiting.size,
      rttMs: this.#liveness.rttMs,
      bytesIn: this.#bytesIn,
      bytesOut: this.#writer.bytesOut,
      creditStalls: this.#creditStalls,
      get queuedBytes() {
        return sum((stream) => stream.queuedBytes);
      },
      get earlyBytes() {
        return sum((stream) => stream.heldBytes);
      },
    };
  }

  streams(): Stream[] {
    return [...this.#streams.values()];
  }

  /** The streams on the waiting list, in its order. */
  waiting(): Stream[] {
    return [...this.#writer.waiting];
  }

  // ---- the loop turn ----

  /** Everything that happens in a loop turn is written at its end, in one write. */
  #schedule(): void {
    if (this.#turnDue || this.#end !== undefined) return;
    this.#turnDue = true;
    setImmediate(this.#turn);
  }

  readonly #turn = (): void => {
    if (this.#end !== undefined) return;
    this.#reader.handOn();
    if (this.#ended) return;
    const touched = this.#takeTouched();
    let isHeld = false;
    for (const stream of touched) {
      stream.endTurn();
      isHeld ||= stream.holdsPieces;
    }
    this.#reader.endTurn(isHeld);
    this.#flush();
    for (const stream of touched) stream.resumeSource();
    // Those whose queue this write has emptied may read on at once.
    for (const stream of this.#takeTouched()) {
      stream.endTurn();
      stream.resumeSource();
    }
    this.#turnDue = false;
    const more = this.#writer.congested ? this.#touched.length > 0 : this.#hasWork;
    if (more) this.#schedule();
  };

  get #hasWork(): boolean {
    const leaving = this.#goAwaySent !== undefined && this.#streams.size === 0;
    return this.#touched.length > 0 || this.#writer.pending || leaving;
  }

  /** Asked again where a call may have ended the session meanwhile. */
  get #ended(): boolean {
    return this.#end !== undefined;
  }

  #takeTouched(): readonly Stream[] {
    const touched = this.#touched;
    if (touched.length > 0) this.#touched = [];
    for (const stream of touched) stream.isTouched = false;
    return touched;
  }

  #flush(): void {
    if (!this.#writer.congested) {
      this.#writer.flush();
      this.#pendingPongs = 0;
    }
    if (this.#goAwaySent !== undefined && this.#streams.size === 0 && this.#writer.idle) {
      this.#close(this.#goAwaySent.code);
    }
  }

  #linkTook(): void {
    if (this.#end !== undefined) return;
    if (this.#writer.pending || this.#goAwaySent !== undefined) this.#schedule();
  }

  #message(frame: Buffer): void {
    if (!this.#writer.message(frame)) {
      this.#fail('protocol_error', 'too many messages are waiting for the link');
      return;
    }
    this.#schedule();
  }

  // ---- from the link ----

  #onLinkData(chunk: Buffer): void {
    if (this.#end !== undefined || this.#failing) return;
    this.#bytesIn += chunk.length;
    this.#liveness.bytesArrived();
    try {
      this.#frames.push(chunk, this.#sink);
    } catch (error) {
      if (!(error instanceof LinkViolation) && !(error instanceof AppError)) throw error;
      this.#fail('protocol_error', messageOf(error));
    }
  }

  readonly #onLinkError = (error: Error): void => this.#lost(messageOf(error));
  readonly #onLinkGone = (): void => this.#lost(undefined);

  #lost(detail: string | undefined): void {
    this.#reader.handOn();
    if (this.#end !== undefined) return;
    const goAway = this.#goAwayReceived;
    if (goAway !== undefined && this.#streams.size === 0) this.#finish(goAway.code, detail);
    else this.#finish('link_lost', detail);
    this.#duplex.destroy();
  }

  /** Counts a frame that changed nothing. */
  #idle(): void {
    if (!this.#idleFrames.allow()) throw new LinkViolation('too many frames that change nothing');
  }

  /** The live stream of a frame; `undefined` when it has ended. */
  #streamOf(number: number): Stream | undefined {
    if (number > this.#highest) {
      throw new LinkViolation(`frame for stream ${number} above the highest, ${this.#highest}`);
    }
    return this.#streams.get(number);
  }

  readonly #sink: FrameSink = {
    dataStart: (number, flags, offset, length) => {
      const stream = this.#streamOf(number);
      this.#current = undefined;
      if (length === 0 && (flags & FLAG_FIN) === 0) this.#idle();
      if (stream === undefined) {
        if (length === 0) this.#idle();
        this.#lateBytes -= length;
        if (this.#lateBytes < 0) throw new LinkViolation(`data for stream ${number} beyond its credit`);
        return;
      }
      const problem = stream.dataProblem(offset, length);
      if (problem !== undefined) {
        stream.reset(problem);
        return;
      }
      this.#current = stream;
      this.#currentFin = (flags & FLAG_FIN) !== 0;
    },
    dataPiece: (piece) => {
      const stream = this.#current;
      if (stream === undefined) return;
      if (!stream.isEnded) stream.dataPiece(piece);
      else this.#lateBytes -= piece.length;
    },
    dataEnd: () => {
      const stream = this.#current;
      if (stream !== undefined && this.#currentFin && !stream.isEnded) stream.finReceived();
      this.#current = undefined;
    },
    frame: (type, flags, number, value, payload) => this.#onFrame(type, flags, number, value, payload),
  };

  #onFrame(type: number, flags: number, number: number, value: number, payload: Buffer): void {
    switch (type) {
      case FRAME.OPEN: {
        this.#onOpenFrame(number, value, payload);
        return;
      }
      case FRAME.ACCEPT: {
        const stream = this.#answered(number, 'accept');
        if (stream !== undefined) this.#gatewayOpenings.accept(stream, value, payload);
        return;
      }
      case FRAME.REFUSE: {
        const stream = this.#answered(number, 'refuse');
        const movable = (flags & FLAG_MOVABLE) !== 0;
        if (stream !== undefined) this.#gatewayOpenings.refuse(stream, movable, value, payload);
        return;
      }
      case FRAME.CREDIT: {
        this.#onCredit(number, value, (flags & FLAG_FIN) !== 0, payload);
        return;
      }
      case FRAME.BLOCKED:
        if (this.#streamOf(number)?.peerBlocked(value) !== true) this.#idle();
        return;
      case FRAME.RESET: {
        this.#onReset(number, payload);
        return;
      }
      case FRAME.PING: {
        this.#onPing(value);
        return;
      }
      case FRAME.PONG:
        if (!this.#liveness.pong(value)) this.#idle();
        else this.#growth.windowCapBytes = windowCapFor(this.#liveness.leastRttMs ?? 0);
        return;
      case FRAME.GOAWAY: {
        this.#onGoAwayFrame(value, payload);
        return;
      }
      default:
        throw new LinkViolation(`frame type ${type} is not expected here`);
    }
  }

  #onOpenFrame(number: number, sendLimit: number, payload: Buffer): void {
    if (this.#side === 'gateway') throw new LinkViolation('the agent may not open streams');
    if (number <= this.#highest) {
      throw new LinkViolation(`open of stream ${number}, the highest is ${this.#highest}`);
    }
    this.#highest = number;
    // Above the highest that GOAWAY named: the opener takes it back by itself.
    if (this.#goAwaySent !== undefined) this.#lateBytes += this.#peer.ownHello.limits.early;
    else this.#agentOpenings.open(number, sendLimit, payload, this.#streams.size);
  }

  /** The stream that an answer is for; `undefined` when it has ended. */
  #answered(number: number, answer: string): Stream | undefined {
    if (this.#side === 'agent') throw new LinkViolation(`the gateway may not send ${answer}`);
    this.#liveness.proved();
    const stream = this.#streamOf(number);
    if (stream === undefined) this.#idle();
    return stream;
  }

  #onCredit(number: number, limit: number, fin: boolean, payload: Buffer): void {
    const stream = this.#streamOf(number);
    if (stream === undefined) {
      this.#idle();
      return;
    }
    const consumed = readValue(payload, 0);
    if (consumed === undefined) throw new LinkViolation('credit above 2^53 - 1');
    const advanced = stream.credit(limit, consumed, fin);
    if (advanced === undefined) stream.reset('protocol_error');
    else if (advanced) this.#liveness.proved();
    else this.#idle();
  }

  #onReset(number: number, payload: Buffer): void {
    const stream = this.#streamOf(number);
    if (stream === undefined) {
      this.#idle();
      return;
    }
    const reasonNumber = payload.readUInt16BE(0);
    stream.peerReset(closeReasonOf(reasonNumber), reasonNumber);
  }

  #onPing(opaque: number): void {
    this.#idle();
    this.#pendingPongs += 1;
    if (this.#pendingPongs > MAX_PENDING_PONGS && this.#writer.congested) {
      throw new LinkViolation(`more than ${MAX_PENDING_PONGS} pings wait for an answer`);
    }
    this.#message(encodeFrame(FRAME.PONG, 0, 0, opaque));
  }

  #onGoAwayFrame(highest: number, payload: Buffer): void {
    if (this.#goAwayReceived !== undefined) {
      this.#idle();
      return;
    }
    const { code: name, deadlineMs } = decodeGoAway(payload);
    const code = isCloseReason(name) ? name : 'internal';
    const goAway: GoAway = { code, codeNumber: CLOSE_REASON[code], deadlineMs, highest };
    this.#goAwayReceived = goAway;
    for (const call of this.#goAwayCalls) call(goAway);
    this.#gatewayOpenings.takeBack(goAway);
  }

  // ---- ends ----

  /** Says why, then destroys the link; the streams end at once. */
  #fail(reason: CloseReason, detail: string): void {
    if (this.#end !== undefined || this.#failing) return;
    this.#failing = true;
    this.#writer.clear();
    this.#duplex.end(encodeFrame(FRAME.GOAWAY, 0, 0, 0, encodeGoAway(reason, 0)));
    this.#finish(reason, detail);
    this.#destroySoon();
  }

  /** The orderly end, once nothing is left to say. */
  #close(reason: CloseReason): void {
    this.#duplex.end();
    this.#finish(reason);
    this.#destroySoon();
  }

  #destroySoon(): void {
    const duplex = this.#duplex;
    duplex.on('data', dropData);
    duplex.resume();
    const lastWords = this.#clock.after(LAST_WORDS_MS, () => duplex.destroy());
    duplex.once('close', () => lastWords.cancel());
    duplex.once('end', () => duplex.destroy());
  }

  #finish(reason: CloseReason, detail?: string): void {
    if (this.#end !== undefined) return;
    const end: SessionEnd = detail === undefined ? { reason } : { reason, detail };
    this.#end = end;
    this.#liveness.stop();
    this.#goAwayTimer?.cancel();
    this.#reader.stop(this.#duplex);
    this.#writer.clear();
    for (const stream of [...this.#streams.values()]) stream.linkEnded(reason);
    for (const call of this.#endCalls.splice(0)) call(end);
  }

  // ---- what parts see of the session ----

  #openingsHost(): OpeningsHost {
    return {
      streamHost: this.#streamHost(),
      add: (stream) => {
        this.#highest = stream.number;
        this.#streams.set(stream.number, stream);
      },
      message: (frame) => this.#message(frame),
      expectLate: (bytes) => {
        this.#lateBytes += bytes;
      },
    };
  }

  #streamHost(): StreamHost {
    return {
      side: this.#side,
      clock: this.#clock,
      growth: this.#growth,
      stateChanged: (stream) => {
        this.#writer.stateChanged(stream);
        this.#schedule();
      },
      sendChanged: (stream) => {
        this.#writer.update(stream);
        if (stream.wantsToWrite && !this.#writer.congested) this.#schedule();
      },
      touched: (stream) => {
        stream.isTouched = true;
        this.#touched.push(stream);
        this.#schedule();
      },
      ended: (stream) => {
        this.#writer.waiting.remove(stream);
        if (!this.#streams.delete(stream.number)) return;
        this.#gatewayOpenings.forget(stream);
        this.#lateBytes += stream.unusedCreditBytes;
        if (this.#goAwaySent !== undefined) this.#schedule();
      },
      creditStalled: () => {
        this.#creditStalls += 1;
      },
    };
  }

  #livenessHost(): LivenessHost {
    const writer = this.#writer;
    return {
      sendPing: (opaque) => this.#message(encodeFrame(FRAME.PING, 0, 0, opaque)),
      dead: (detail) => this.destroy('link_lost', detail),
      check: (nowMs) => {
        for (const stream of this.#streams.values()) {
          stream.checkStall(nowMs, this.#lingerIdleMs, this.#blockedTimeoutMs);
        }
      },
      get lastTakenMs() {
        return writer.lastTakenMs;
      },
      get congested() {
        return writer.congested;
      },
    };
  }
}

const dropData = (): void => undefined;
