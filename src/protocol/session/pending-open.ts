import type { Socket } from 'node:net';
import { type CloseReason, resetSocket } from '../../runtime/index.ts';
import type { Stream } from './stream.ts';
import type { IncomingOpen, OpenMeta, SessionStream, StreamEnd } from './types.ts';

export interface RefuseInfo {
  readonly movable: boolean;
  readonly decision_id?: string;
  readonly retry_after_ms?: number;
  readonly dial_refused?: boolean;
}

export interface PendingOpenHost {
  accepted(decisionId: string, receiveLimit: number): void;
  refused(code: CloseReason, info: RefuseInfo): void;
}

/** An OPEN between its arrival and the agent's answer; one answer is given, or none when it was aborted. */
export class PendingOpen implements IncomingOpen {
  readonly meta: OpenMeta;
  readonly #stream: Stream;
  readonly #host: PendingOpenHost;
  readonly #abortCalls: ((reason: CloseReason) => void)[] = [];
  #answered = false;
  #abortReason: CloseReason | undefined;

  constructor(meta: OpenMeta, stream: Stream, host: PendingOpenHost) {
    this.meta = meta;
    this.#stream = stream;
    this.#host = host;
  }

  get number(): number {
    return this.#stream.number;
  }

  get aborted(): boolean {
    return this.#answered || this.#abortReason !== undefined;
  }

  onAbort(call: (reason: CloseReason) => void): void {
    if (this.#abortReason !== undefined) call(this.#abortReason);
    else if (!this.#answered) this.#abortCalls.push(call);
  }

  accept(
    socket: Socket,
    info: { readonly decision_id: string },
    onEnd: (end: StreamEnd) => void,
  ): SessionStream {
    const stream = this.#stream;
    if (this.aborted) {
      socket.on('error', () => undefined);
      resetSocket(socket);
      const end = stream.end;
      if (end !== undefined) queueMicrotask(() => onEnd(end));
      return stream;
    }
    this.#answered = true;
    this.#abortCalls.length = 0;
    stream.onEnd = onEnd;
    // ACCEPT is queued before the socket is attached: a socket that is dead already is a RESET behind it.
    this.#host.accepted(info.decision_id, stream.openReceiving());
    stream.attach(socket, Buffer.alloc(0));
    return stream;
  }

  refuse(code: CloseReason, info: RefuseInfo): void {
    if (this.aborted) return;
    this.#answered = true;
    this.#abortCalls.length = 0;
    this.#host.refused(code, info);
  }

  /** The opener or the link went away first. */
  abort(reason: CloseReason): void {
    if (this.aborted) return;
    this.#abortReason = reason;
    for (const call of this.#abortCalls.splice(0)) call(reason);
  }
}
