import type { Socket } from 'node:net';
import type { CloseReason } from '../../runtime/index.ts';
import { FLAG_FIN, FRAME, HEADER_BYTES } from './constants.ts';
import { writeHeader, writeValue } from './frame-header.ts';
import type { WindowBudget } from './window-budget.ts';

const NOT_BLOCKED = -1;

/** One direction of a stream, from the link to its socket: what came, what the socket took, what is granted. */
export class Inflow {
  readonly #growth: WindowBudget;
  #socket: Socket | undefined;
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  #received = 0;
  #limit: number;
  #window: number;
  #grownBytes = 0;
  #given = 0;
  #finReceived = false;
  #finWaits = false;
  #finPassedOn = false;
  #finDelivered = false;
  #peerBlockedAt = NOT_BLOCKED;

  /** `limit`: payload bytes that may come now, absolute; `window`: what is open once a socket takes them. */
  constructor(limit: number, window: number, growth: WindowBudget) {
    this.#limit = limit;
    this.#window = window;
    this.#growth = growth;
  }

  get receivedBytes(): number {
    return this.#received;
  }

  /** Bytes that the socket has not been given. */
  get heldBytes(): number {
    return this.#pieceBytes;
  }

  /** Bytes that the socket has passed to the kernel. */
  get takenBytes(): number {
    return this.#socket === undefined ? 0 : this.#given - this.#socket.writableLength;
  }

  get finReceived(): boolean {
    return this.#finReceived;
  }

  get finDelivered(): boolean {
    return this.#finDelivered;
  }

  /** Credit that the peer has not used. */
  get unusedCreditBytes(): number {
    return this.#finReceived ? 0 : this.#limit - this.#received;
  }

  /** Opens the whole window; answers the limit. */
  open(): number {
    this.#limit = Math.max(this.#limit, this.#window);
    return this.#limit;
  }

  attach(socket: Socket): void {
    this.#socket = socket;
  }

  /** Why a DATA frame is a violation, or `undefined`. */
  problem(offset: number, length: number): CloseReason | undefined {
    if (offset !== this.#received || this.#finReceived) return 'protocol_error';
    if (offset + length > this.#limit) return 'flow_control';
    return undefined;
  }

  push(piece: Buffer): void {
    this.#received += piece.length;
    this.#pieces.push(piece);
    this.#pieceBytes += piece.length;
  }

  end(): void {
    this.#finReceived = true;
  }

  /** The peer ran out of credit; false when that is no news. */
  peerBlocked(offset: number): boolean {
    if (offset <= this.#peerBlockedAt || offset !== this.#received) return false;
    this.#peerBlockedAt = offset;
    return true;
  }

  /** Gives the socket what is held. */
  deliver(): void {
    const socket = this.#socket;
    if (socket === undefined || this.#pieceBytes === 0) return;
    const pieces = this.#pieces;
    this.#given += this.#pieceBytes;
    this.#pieceBytes = 0;
    const only = pieces[0];
    if (pieces.length === 1 && only !== undefined) {
      pieces.length = 0;
      socket.write(only);
      return;
    }
    this.#pieces = [];
    socket.cork();
    for (const piece of pieces) socket.write(piece);
    socket.uncork();
  }

  /**
   * Ends the socket once it has taken the last byte; `delivered` is called when that is done. Until then it is to be
   * called again when the socket drains, and `drained` is called by a socket that would not say so by itself. The
   * end waits because libuv refuses to reset a socket whose shutdown is behind data: an abort would then reach the
   * far end as an orderly end of half the data.
   */
  passFinOn(delivered: () => void, drained: () => void): void {
    const socket = this.#socket;
    if (!this.#finReceived || this.#finPassedOn || socket === undefined) return;
    if (socket.writableLength > 0) {
      if (this.#finWaits || socket.writableNeedDrain) return;
      this.#finWaits = true;
      socket.write(NOTHING, drained);
      return;
    }
    this.#finPassedOn = true;
    socket.end(() => {
      this.#finDelivered = true;
      delivered();
    });
  }

  /**
   * Whether a CREDIT is worth sending: the socket has taken a quarter of the window. `drained` is called when a
   * socket that does not say so by itself has taken what it holds.
   */
  creditDue(drained: () => void): boolean {
    const socket = this.#socket;
    if (socket === undefined || this.#finReceived) return false;
    const taken = this.takenBytes;
    if (this.#peerBlockedAt !== NOT_BLOCKED) {
      if (this.#pieceBytes === 0 && taken === this.#given) this.#grow();
      this.#peerBlockedAt = NOT_BLOCKED;
    }
    // A socket with a high-water mark as large as the window would never say that it has drained.
    if (socket.writableLength >= this.#window / 4 && !socket.writableNeedDrain && !socket.writableEnded) {
      socket.write(NOTHING, drained);
    }
    return taken + this.#window - this.#limit >= this.#window / 4;
  }

  /** Writes CREDIT, raising the limit to what it says; answers its length. */
  writeCredit(into: Buffer, at: number, number: number): number {
    const taken = this.takenBytes;
    if (!this.#finReceived) this.#limit = Math.max(this.#limit, taken + this.#window);
    writeHeader(into, at, FRAME.CREDIT, this.#finDelivered ? FLAG_FIN : 0, 8, number, this.#limit);
    writeValue(into, at + HEADER_BYTES, taken);
    return HEADER_BYTES + 8;
  }

  clear(): void {
    this.#pieces = [];
    this.#pieceBytes = 0;
    if (this.#grownBytes > 0) this.#growth.release(this.#grownBytes);
    this.#grownBytes = 0;
  }

  /** The sender ran out of credit although the socket keeps up: the window is too small for the round trip. */
  #grow(): void {
    const more = Math.min(this.#window, this.#growth.windowCapBytes - this.#window);
    if (more <= 0 || !this.#growth.reserve(more)) return;
    this.#window += more;
    this.#grownBytes += more;
  }
}

const NOTHING = Buffer.alloc(0);
