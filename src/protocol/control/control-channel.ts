import type { WebSocket } from 'ws';
import { AppError, cleanText, type Clock, type Logger, messageOf, type Timer } from '../../runtime/index.ts';
import type { ControlLinkErrorCode } from './errors.ts';
import {
  type ControlMessage,
  decodeMessage,
  encodeMessage,
  MAX_MESSAGE_BYTES,
  type MessageType,
  type MESSAGES,
} from './messages.ts';
import type { z } from 'zod';

/** Path of the WebSocket on a relay node. */
export const CONTROL_PATH = '/.sallyport/v1/control';
export const CONTROL_SUBPROTOCOL = 'sallyport.v1';
/** A WebSocket ping goes out this often, busy or quiet. */
export const CONTROL_PING_MS = 10_000;
/** A control link whose oldest unanswered ping is this old is dead. */
export const CONTROL_DEAD_MS = 30_000;
/** How long an answer may take unless the asker says otherwise. */
export const REQUEST_TIMEOUT_MS = 10_000;
/** Requests that may wait for their answers at one time. */
const MAX_PENDING_REQUESTS = 4_096;
/** Bytes that may wait in the socket before the peer counts as dead: it does not read. */
const MAX_QUEUED_BYTES = 16 * 1024 * 1024;
/** WebSocket close codes (RFC 6455 §7.4.1). */
const CLOSE_NORMAL = 1000;
const CLOSE_PROTOCOL = 1002;

type Body<T extends MessageType> = z.input<(typeof MESSAGES)[T]>;

interface Pending {
  readonly resolve: (message: ControlMessage) => void;
  readonly reject: (error: Error) => void;
  readonly timer: Timer;
}

export interface ControlChannelOptions {
  readonly socket: WebSocket;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Every message that is not the answer to a request. Must not throw. */
  readonly onMessage: (message: ControlMessage) => void;
  /** An answer whose request was given up before it came. Must not throw; default: it is dropped. */
  readonly onLateAnswer?: (message: ControlMessage) => void;
  /** Once, when the channel is done for. */
  readonly onClose: (detail: string) => void;
}

/** Typed messages, requests with answers and liveness over one WebSocket; the same class at both ends. */
export class ControlChannel {
  readonly #socket: WebSocket;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #onMessage: (message: ControlMessage) => void;
  readonly #onLateAnswer: ((message: ControlMessage) => void) | undefined;
  readonly #onClose: (detail: string) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #pinger: Timer;
  #nextId = 1;
  #pingSentMs: number | undefined;
  #rttMs: number | undefined;
  #open = true;

  constructor(options: ControlChannelOptions) {
    this.#socket = options.socket;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#onMessage = options.onMessage;
    this.#onLateAnswer = options.onLateAnswer;
    this.#onClose = options.onClose;
    this.#pinger = options.clock.every(CONTROL_PING_MS, () => this.#ping()).unref();
    const socket = this.#socket;
    socket.on('message', (data: Buffer, isBinary: boolean) => this.#receive(data, isBinary));
    socket.on('pong', () => this.#ponged());
    socket.on('error', (error) => this.#end(messageOf(error)));
    socket.on('close', (code: number, reason: Buffer) => {
      const why = reason.length === 0 ? '' : `: ${cleanText(reason.toString('utf8'))}`;
      this.#end(`control link closed with ${code}${why}`);
    });
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** Last measured round trip, milliseconds. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** Sends a message; nothing when the channel is closed. Returns its id. */
  send<T extends MessageType>(type: T, body: Body<T>, re?: number): number {
    const id = this.#nextId;
    this.#nextId += 1;
    if (!this.#open) return id;
    const text = encodeMessage(type, id, body, re);
    if (Buffer.byteLength(text) > MAX_MESSAGE_BYTES) {
      this.#logger.error({ type, bytes: text.length }, 'control message is too long and was not sent');
      return id;
    }
    this.#socket.send(text);
    if (this.#socket.bufferedAmount > MAX_QUEUED_BYTES) this.destroy('peer does not read its control link');
    return id;
  }

  /**
   * Sends a message and waits for the one that answers it.
   *
   * @throws AppError ERR_CONTROL_LINK_DOWN, ERR_CONTROL_LINK_TIMEOUT
   */
  request<T extends MessageType>(
    type: T,
    body: Body<T>,
    timeoutMs: number = REQUEST_TIMEOUT_MS,
  ): Promise<ControlMessage> {
    if (!this.#open || this.#pending.size >= MAX_PENDING_REQUESTS) {
      return Promise.reject(this.#down(`control link is down, ${type} was not sent`));
    }
    return new Promise((resolve, reject) => {
      const id = this.send(type, body);
      if (!this.#open) {
        reject(this.#down(`control link went down while ${type} was sent`));
        return;
      }
      const timer = this.#clock.after(timeoutMs, () => {
        this.#pending.delete(id);
        const code: ControlLinkErrorCode = 'ERR_CONTROL_LINK_TIMEOUT';
        reject(new AppError(code, `no answer to ${type} within ${timeoutMs} ms`, { retryable: true }));
      });
      this.#pending.set(id, { resolve, reject, timer });
    });
  }

  /** Ends the channel in good order: what was sent still leaves. `reason` is for people, at most 123 bytes (RFC 6455, 5.5). */
  close(reason?: string): void {
    if (!this.#open) return;
    this.#socket.close(CLOSE_NORMAL, reason);
    this.#end('closed');
  }

  /** Ends the channel at once. */
  destroy(detail: string): void {
    if (!this.#open) return;
    this.#end(detail);
    this.#socket.terminate();
  }

  #down(message: string): AppError<ControlLinkErrorCode> {
    return new AppError('ERR_CONTROL_LINK_DOWN', message, { retryable: true });
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (!this.#open) return;
    try {
      if (isBinary) throw new AppError('ERR_CONTROL_LINK_MESSAGE', 'binary message on a control link');
      const message = decodeMessage(data.toString('utf8'));
      if (message.t === undefined) {
        const detail = `message type ${message.type} is not known`;
        this.send('error', { code: 'unsupported', detail: detail.slice(0, 256) }, message.id);
        return;
      }
      if (message.re === undefined) {
        this.#onMessage(message);
        return;
      }
      const pending = this.#pending.get(message.re);
      if (pending === undefined) {
        this.#onLateAnswer?.(message);
        return;
      }
      this.#pending.delete(message.re);
      pending.timer.cancel();
      pending.resolve(message);
    } catch (thrown) {
      this.#logger.warn({ detail: messageOf(thrown) }, 'control link broke the protocol');
      if (!this.isOpen) return;
      this.#socket.close(CLOSE_PROTOCOL, 'protocol_error');
      this.#end(messageOf(thrown));
    }
  }

  #ping(): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#pingSentMs !== undefined) {
      if (nowMs - this.#pingSentMs >= CONTROL_DEAD_MS) {
        this.destroy(`no pong within ${CONTROL_DEAD_MS} ms`);
      }
      return;
    }
    this.#pingSentMs = nowMs;
    this.#socket.ping();
  }

  #ponged(): void {
    if (this.#pingSentMs === undefined) return;
    this.#rttMs = this.#clock.monotonicMs() - this.#pingSentMs;
    this.#pingSentMs = undefined;
  }

  #end(detail: string): void {
    if (!this.#open) return;
    this.#open = false;
    this.#pinger.cancel();
    for (const pending of this.#pending.values()) {
      pending.timer.cancel();
      pending.reject(this.#down(`control link is down: ${detail}`));
    }
    this.#pending.clear();
    this.#onClose(detail);
  }
}
