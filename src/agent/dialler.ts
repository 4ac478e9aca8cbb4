import { connect as netConnect, type Socket } from 'node:net';
import {
  type CloseReason,
  foreignCodeOf,
  messageOf,
  type TimerWheel,
  type WheelEntry,
} from '../runtime/index.ts';

/** Keep-alive probes start after this much silence on a target's socket. */
const KEEP_ALIVE_MS = 30_000;

/** Opens a TCP connection to an address that was evaluated; never to a name. */
export type Connect = (address: string, port: number) => Socket;

/** Half-close is carried, small writes go at once, dead peers are found. */
export const connectTcp: Connect = (address, port) =>
  netConnect({
    host: address,
    port,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
  });

export interface DialPlan {
  /** In order; only these are dialled. */
  readonly addresses: readonly string[];
  readonly port: number;
  readonly connectTimeoutMs: number;
  /** Asked just before each connect(): why that address must not be dialled. */
  readonly refuse: (address: string) => DialFailure | undefined;
}

export interface DialFailure {
  readonly reason: Extract<
    CloseReason,
    'target_unreachable' | 'target_timeout' | 'guard_denied' | 'managed_denied'
  >;
  readonly detail: string;
}

export interface DialHandlers {
  /** The socket is connected, paused and has no listeners of ours left. */
  onConnected(socket: Socket, address: string): void;
  /** Every address failed. */
  onFailed(failure: DialFailure): void;
}

/** One attempt to reach a target over its evaluated addresses, one after the other. */
export class Dial {
  readonly #plan: DialPlan;
  readonly #connect: Connect;
  readonly #wheel: TimerWheel;
  readonly #handlers: DialHandlers;
  #at = 0;
  #socket: Socket | undefined;
  #timer: WheelEntry | undefined;
  #ended = false;
  #last: DialFailure = { reason: 'target_unreachable', detail: 'no address to dial' };

  constructor(plan: DialPlan, connect: Connect, wheel: TimerWheel, handlers: DialHandlers) {
    this.#plan = plan;
    this.#connect = connect;
    this.#wheel = wheel;
    this.#handlers = handlers;
  }

  /** The first connect() happens before this returns. */
  start(): void {
    this.#next();
  }

  /** Stops without calling back. */
  abort(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#drop();
  }

  #drop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket === undefined) return;
    socket.removeAllListeners('connect');
    socket.removeAllListeners('error');
    // A connect that was under way may still fail; nobody is interested any more.
    socket.on('error', ignore);
    socket.destroy();
  }

  #next(): void {
    const address = this.#plan.addresses[this.#at];
    if (address === undefined) {
      this.#ended = true;
      this.#handlers.onFailed(this.#last);
      return;
    }
    this.#at += 1;
    const refusal = this.#plan.refuse(address);
    if (refusal !== undefined) {
      this.#failed(refusal);
      return;
    }
    let socket: Socket;
    try {
      socket = this.#connect(address, this.#plan.port);
    } catch (error) {
      this.#failed({ reason: 'target_unreachable', detail: messageOf(error) });
      return;
    }
    // Nothing is read before the session owns the socket.
    socket.pause();
    this.#socket = socket;
    this.#timer = this.#wheel.after(this.#plan.connectTimeoutMs, () =>
      this.#failed({ reason: 'target_timeout', detail: `no answer from ${address}` }),
    );
    socket.once('error', (error) => {
      const code = foreignCodeOf(error);
      const reason = code === 'ETIMEDOUT' ? 'target_timeout' : 'target_unreachable';
      this.#failed({ reason, detail: `${address}: ${code ?? messageOf(error)}` });
    });
    socket.once('connect', () => {
      this.#ended = true;
      this.#timer?.cancel();
      this.#socket = undefined;
      socket.removeAllListeners('error');
      this.#handlers.onConnected(socket, address);
    });
  }

  #failed(failure: DialFailure): void {
    if (this.#ended) return;
    this.#last = failure;
    this.#drop();
    this.#next();
  }
}

const ignore = (): void => undefined;
