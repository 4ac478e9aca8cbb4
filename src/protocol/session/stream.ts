import type { Socket } from 'node:net';
import {
  CLOSE_REASON,
  type Clock,
  type CloseReason,
  resetSocket,
  SourceReader,
} from '../../runtime/index.ts';
import { DELIVER_BYTES, FRAME, HEADER_BYTES } from './constants.ts';
import { writeHeader } from './frame-header.ts';
import { Inflow } from './inflow.ts';
import type { Sender } from './link-writer.ts';
import { Outflow } from './outflow.ts';
import { endedByReset } from './reset-detection.ts';
import type { SessionStream, StreamEnd } from './types.ts';
import { LANE, type Lane } from './waiting-list.ts';
import type { WindowBudget } from './window-budget.ts';

/** What a stream asks of its session. */
export interface StreamHost {
  readonly side: 'gateway' | 'agent';
  readonly clock: Clock;
  readonly growth: WindowBudget;
  /** CREDIT, BLOCKED or RESET of the stream is to be written. */
  stateChanged(stream: Stream): void;
  /** The stream may have to join or leave the waiting list. */
  sendChanged(stream: Stream): void;
  /** `endTurn` of the stream is to be called at the end of this loop turn. */
  touched(stream: Stream): void;
  /** Called once; the stream is dead. */
  ended(stream: Stream): void;
  creditStalled(): void;
}

export interface StreamLimits {
  /** Payload bytes that may be sent now, absolute. */
  readonly send: number;
  /** Payload bytes that may be received now, absolute. */
  readonly receive: number;
  /** Receive window once the stream is open. */
  readonly window: number;
}

const END_KEEPALIVE_MS = 30_000;

/**
 * One stream and the socket that it is spliced to. Bytes read from the socket wait in a queue until the session
 * writes them as DATA; bytes of DATA go to the socket at the end of the loop turn, and are credited to the peer
 * once the socket's own queue has passed them on.
 */
export class Stream implements SessionStream, Sender {
  readonly number: number;
  readonly id: string;
  readonly openedMs: number;
  /** Told of the end, once, after the session has forgotten the stream. */
  onEnd: ((end: StreamEnd) => void) | undefined;
  /** Whether an end without ACCEPT leaves the socket, paused, to whoever opened the stream. */
  keepsSocket = false;

  // Links of the waiting list.
  lane: Lane = LANE.none;
  deficitBytes = 0;
  previous: this | undefined = undefined;
  next: this | undefined = undefined;

  /** Set while `endTurn` is due. */
  isTouched = false;

  readonly #host: StreamHost;
  readonly #openedAtMs: number;
  readonly #out: Outflow;
  readonly #in: Inflow;
  #socket: Socket | undefined;
  #reader: SourceReader | undefined;
  #state: 'waiting' | 'open' | 'ended' = 'waiting';
  #end: StreamEnd | undefined;
  #firstFin: CloseReason | undefined;
  #sourcePaused = false;

  // What is written to the link when there is room, each at most once.
  #stateNoted = false;
  #creditDue = false;
  #blockedDue = false;
  #resetDue: CloseReason | undefined;

  // Stall clock, moved by `checkStall`.
  #progressMark = -1;
  #progressMs: number;

  constructor(host: StreamHost, number: number, id: string, limits: StreamLimits) {
    this.#host = host;
    this.number = number;
    this.id = id;
    this.openedMs = host.clock.nowMs();
    this.#openedAtMs = host.clock.monotonicMs();
    this.#progressMs = this.#openedAtMs;
    this.#out = new Outflow(limits.send);
    this.#in = new Inflow(limits.receive, limits.window, host.growth);
  }

  get bytesUp(): number {
    return this.#host.side === 'gateway' ? this.#out.sentBytes : this.#in.receivedBytes;
  }

  get bytesDown(): number {
    return this.#host.side === 'gateway' ? this.#in.receivedBytes : this.#out.sentBytes;
  }

  get queuedBytes(): number {
    return this.#out.queuedBytes;
  }

  /** Bytes received that the socket has not been given. */
  get heldBytes(): number {
    return this.#in.heldBytes;
  }

  /** Whether bytes of DATA that came are still referenced, here or by the socket. */
  get holdsPieces(): boolean {
    return this.#in.heldBytes > 0 || (this.#socket?.writableLength ?? 0) > 0;
  }

  get isEnded(): boolean {
    return this.#state === 'ended';
  }

  get wantsToWrite(): boolean {
    return this.#state !== 'ended' && this.#out.isReady;
  }

  /** Credit granted and not used by the peer: what may still come when this end is the one that closes. */
  get unusedCreditBytes(): number {
    return this.#in.unusedCreditBytes;
  }

  /** How it ended; `undefined` while it lives or when it was refused. */
  get end(): StreamEnd | undefined {
    return this.#end;
  }

  // ---- opening ----

  /** Splices the paused socket; `early` goes before what it still holds. */
  attach(socket: Socket, early: Buffer): void {
    this.#socket = socket;
    this.#in.attach(socket);
    this.#out.push(early);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, END_KEEPALIVE_MS);
    this.#reader = new SourceReader(socket, this.#onData);
    socket.on('end', this.#onSourceEnd);
    socket.on('drain', this.#onDrain);
    socket.on('error', this.#onSocketError);
    socket.on('close', this.#onSocketClose);
    if (socket.destroyed) {
      this.#localAbort();
      return;
    }
    if (socket.readableEnded) this.#onSourceEnd();
    else if (this.#out.hasRoom) socket.resume();
    else this.#pauseSource();
    this.#host.sendChanged(this);
    if (this.#in.heldBytes > 0 || this.#in.finReceived) this.#touch();
  }

  /** ACCEPT came: the peer's window is open. */
  accepted(sendLimit: number): void {
    this.#state = 'open';
    this.#out.open(sendLimit);
    this.#noteBlocked();
    this.#host.sendChanged(this);
    this.#touch();
  }

  /** Agent side: opens both windows; answers the receive limit for ACCEPT. A socket is attached next. */
  openReceiving(): number {
    this.#state = 'open';
    this.#out.open();
    return this.#in.open();
  }

  /** The opener was refused: lets go of the socket and answers everything read from it so far. */
  release(): Buffer {
    const socket = this.#socket;
    this.#state = 'ended';
    const early = this.#out.takeBack();
    socket?.pause();
    this.#letGo();
    this.#host.ended(this);
    return early;
  }

  /** The opener takes it back before it was answered: as `release`, and the peer hears RESET. */
  recall(reason: CloseReason): Buffer {
    this.#resetDue = reason;
    this.#noteState();
    return this.release();
  }

  // ---- ends ----

  reset(reason: CloseReason): void {
    this.#finish(reason, CLOSE_REASON[reason], false, true);
  }

  /** RESET came. */
  peerReset(reason: CloseReason, reasonNumber: number): void {
    this.#finish(reason, reasonNumber, false, false);
  }

  /** The link died. */
  linkEnded(reason: CloseReason): void {
    this.#finish(reason, CLOSE_REASON[reason], true, false);
  }

  /** Resets the stream when it has made no progress for too long in a state that should make some. */
  checkStall(nowMs: number, lingerIdleMs: number, blockedTimeoutMs: number): void {
    const out = this.#out;
    const mark = out.sentBytes + out.consumedBytes + this.#in.receivedBytes + this.#in.takenBytes;
    const lingers = this.#in.finReceived && out.finSent;
    const blocked = out.isBlocked && this.#state === 'open';
    if (mark !== this.#progressMark || (!lingers && !blocked)) {
      this.#progressMark = mark;
      this.#progressMs = nowMs;
    } else if (lingers && nowMs - this.#progressMs >= lingerIdleMs) {
      this.reset('idle_timeout');
    } else if (blocked && nowMs - this.#progressMs >= blockedTimeoutMs) {
      this.reset('blocked_timeout');
    }
  }

  // ---- from the link ----

  /** Answers why a DATA frame is a violation, or `undefined`. */
  dataProblem(offset: number, length: number): CloseReason | undefined {
    return this.#in.problem(offset, length);
  }

  dataPiece(piece: Buffer): void {
    this.#in.push(piece);
    if (this.#in.heldBytes >= DELIVER_BYTES) this.#in.deliver();
    this.#touch();
  }

  finReceived(): void {
    this.#in.end();
    this.#firstFin ??= this.#host.side === 'gateway' ? 'target_fin' : 'client_fin';
    this.#touch();
  }

  /** Answers whether the CREDIT advanced anything, or `undefined` for one that cannot be true. */
  credit(limit: number, consumed: number, fin: boolean): boolean | undefined {
    const advanced = this.#out.credit(limit, consumed, fin);
    if (fin) this.#finishWhenBothDone();
    this.#host.sendChanged(this);
    return advanced;
  }

  /** BLOCKED came; false when it says nothing new. */
  peerBlocked(offset: number): boolean {
    if (!this.#in.peerBlocked(offset)) return false;
    this.#touch();
    return true;
  }

  // ---- the end of a loop turn ----

  /** Hands the socket what came in this turn, and accounts for what it has taken. */
  endTurn(): void {
    if (this.#state !== 'open') return;
    this.#in.deliver();
    this.#in.passFinOn(this.#onFinDelivered, this.#onDrain);
    this.#account();
  }

  /** Lets the source go on, once the turn's data has been written. */
  resumeSource(): void {
    if (!this.#sourcePaused || this.#state === 'ended' || !this.#out.hasRoomAgain) return;
    this.#sourcePaused = false;
    this.#socket?.resume();
  }

  // ---- Sender ----

  writeData(into: Buffer, at: number, maxBytes: number): number {
    const written = this.#out.writeData(into, at, maxBytes, this.number);
    this.#noteBlocked();
    if (this.#sourcePaused) this.#touch();
    return written;
  }

  writeState(into: Buffer, from: number): number {
    let at = from;
    this.#stateNoted = false;
    if (this.#creditDue) {
      at += this.#in.writeCredit(into, at, this.number);
      this.#creditDue = false;
    }
    if (this.#blockedDue) {
      writeHeader(into, at, FRAME.BLOCKED, 0, 0, this.number, this.#out.sentBytes);
      at += HEADER_BYTES;
      this.#blockedDue = false;
    }
    if (this.#resetDue !== undefined) {
      writeHeader(into, at, FRAME.RESET, 0, 2, this.number, this.#out.sentBytes);
      into.writeUInt16BE(CLOSE_REASON[this.#resetDue], at + HEADER_BYTES);
      at += HEADER_BYTES + 2;
      this.#resetDue = undefined;
    }
    return at;
  }

  // ---- inside ----

  #touch(): void {
    if (!this.isTouched) this.#host.touched(this);
  }

  #noteState(): void {
    if (this.#stateNoted) return;
    this.#stateNoted = true;
    this.#host.stateChanged(this);
  }

  #noteBlocked(): void {
    if (!this.#out.noteBlocked()) return;
    this.#blockedDue = true;
    this.#host.creditStalled();
    this.#noteState();
  }

  #account(): void {
    if (!this.#in.creditDue(this.#onDrain)) return;
    this.#creditDue = true;
    this.#noteState();
  }

  #pauseSource(): void {
    this.#sourcePaused = true;
    this.#socket?.pause();
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#out.push(chunk);
    this.#noteBlocked();
    if (!this.#out.hasRoom) this.#pauseSource();
    this.#host.sendChanged(this);
  };

  readonly #onSourceEnd = (): void => {
    if (this.#socket !== undefined && endedByReset(this.#socket)) {
      this.#localAbort();
      return;
    }
    this.#out.end();
    this.#firstFin ??= this.#host.side === 'gateway' ? 'client_fin' : 'target_fin';
    this.#host.sendChanged(this);
  };

  readonly #onDrain = (): void => {
    if (this.#state !== 'open') return;
    if (this.#in.heldBytes === 0) this.#in.passFinOn(this.#onFinDelivered, this.#onDrain);
    this.#account();
  };

  readonly #onFinDelivered = (): void => {
    if (this.#state !== 'open') return;
    this.#creditDue = true;
    this.#noteState();
    this.#finishWhenBothDone();
  };

  readonly #onSocketError = (): void => this.#localAbort();

  readonly #onSocketClose = (): void => {
    if (!(this.#out.isEnded && this.#in.finDelivered)) this.#localAbort();
  };

  #localAbort(): void {
    this.reset(this.#host.side === 'gateway' ? 'client_reset' : 'target_reset');
  }

  get #isOrderly(): boolean {
    return this.#out.finAcknowledged && this.#in.finDelivered;
  }

  #finishWhenBothDone(): void {
    if (!this.#isOrderly) return;
    const reason = this.#firstFin ?? 'internal';
    this.#finish(reason, CLOSE_REASON[reason], false, false);
  }

  #finish(reason: CloseReason, reasonNumber: number, linkEnded: boolean, tellPeer: boolean): void {
    if (this.#state === 'ended') return;
    const isKept = this.keepsSocket && this.#state === 'waiting';
    this.#state = 'ended';
    const orderly = this.#isOrderly;
    if (!orderly) {
      this.#creditDue = false;
      this.#blockedDue = false;
    }
    if (tellPeer) {
      this.#resetDue = reason;
      this.#noteState();
    }
    const socket = this.#socket;
    // A socket that is being destroyed may still report an error.
    socket?.on('error', ignoreError);
    this.#letGo();
    if (isKept) socket?.pause();
    else if (socket !== undefined && !orderly) resetSocket(socket);
    this.#end = {
      reason,
      reasonNumber,
      bytesUp: this.bytesUp,
      bytesDown: this.bytesDown,
      openedMs: this.openedMs,
      durationMs: Math.round(this.#host.clock.monotonicMs() - this.#openedAtMs),
      linkEnded,
    };
    this.#host.ended(this);
    const call = this.onEnd;
    this.onEnd = undefined;
    call?.(this.#end);
  }

  #letGo(): void {
    const socket = this.#socket;
    if (socket !== undefined) {
      this.#reader?.stop();
      socket.off('end', this.#onSourceEnd);
      socket.off('drain', this.#onDrain);
      socket.off('error', this.#onSocketError);
      socket.off('close', this.#onSocketClose);
    }
    this.#out.clear();
    this.#in.clear();
  }
}

const ignoreError = (): void => undefined;
