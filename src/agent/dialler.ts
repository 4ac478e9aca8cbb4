import { connect as netConnect, isIPv6, type Socket } from 'node:net';
import {
  type CloseReason,
  foreignCodeOf,
  messageOf,
  type TimerWheel,
  type WheelEntry,
} from '../runtime/index.ts';

/** Keep-alive probes start after this much silence on a target's socket. */
const KEEP_ALIVE_MS = 30_000;

/**
 * The next address is tried beside the ones under way after this long: "Connection Attempt Delay", recommended value
 * of RFC 8305 section 8 (its bounds: 100 ms to 2 s). The wheel may add one of its ticks.
 */
export const CONNECTION_ATTEMPT_DELAY_MS = 250;

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
  /** Only these are dialled; in the resolver's order, each at most once. */
  readonly addresses: readonly string[];
  readonly port: number;
  /** Of each connect(), from its own start. */
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
  /** The target's host answered, with a refusal: nothing listens there. */
  readonly isRefused?: boolean;
}

export interface DialHandlers {
  /** The socket is connected, paused and has no listeners of ours left. */
  onConnected(socket: Socket, address: string): void;
  /** Every address failed. */
  onFailed(failure: DialFailure): void;
}

/**
 * The order in which addresses are tried: families take turns, beginning with that of the first address, so that one
 * family without a route costs one delay (RFC 8305 section 4, First Address Family Count 1). Within a family the
 * order stays.
 */
export const interleaveFamilies = (addresses: readonly string[]): string[] => {
  const isFirstV6 = isIPv6(addresses[0] ?? '');
  const first = addresses.filter((address) => isIPv6(address) === isFirstV6);
  const second = addresses.filter((address) => isIPv6(address) !== isFirstV6);
  const pairs = Array.from({ length: Math.max(first.length, second.length) }, (_, at) => [
    first[at],
    second[at],
  ]);
  return pairs.flat().filter((address) => address !== undefined);
};

/** One connect() under way. */
interface Attempt {
  readonly address: string;
  readonly socket: Socket;
  readonly timer: WheelEntry;
}

/**
 * Reaches a target over its evaluated addresses, raced as RFC 8305 has it: one connect() after the other, the next one
 * after CONNECTION_ATTEMPT_DELAY_MS or as soon as one fails. The first that connects wins, the others are closed.
 */
export class Dial {
  readonly #plan: DialPlan;
  readonly #connect: Connect;
  readonly #wheel: TimerWheel;
  readonly #handlers: DialHandlers;
  /** Still to be tried. */
  readonly #waiting: string[];
  readonly #attempts = new Set<Attempt>();
  #delay: WheelEntry | undefined;
  #ended = false;
  /** In the order in which they came. */
  readonly #failures: DialFailure[] = [];

  constructor(plan: DialPlan, connect: Connect, wheel: TimerWheel, handlers: DialHandlers) {
    this.#plan = plan;
    this.#connect = connect;
    this.#wheel = wheel;
    this.#handlers = handlers;
    this.#waiting = interleaveFamilies(plan.addresses);
  }

  /** The first connect() happens before this returns. */
  start(): void {
    this.#next();
  }

  /** Stops without calling back. */
  abort(): void {
    if (this.#ended) return;
    this.#end();
  }

  /** Nothing of this dial goes on: what is under way is closed. */
  #end(): void {
    this.#ended = true;
    this.#delay?.cancel();
    for (const attempt of this.#attempts) this.#drop(attempt);
  }

  #drop(attempt: Attempt): void {
    const { socket, timer } = attempt;
    this.#attempts.delete(attempt);
    timer.cancel();
    socket.removeAllListeners('connect');
    socket.removeAllListeners('error');
    // A connect that was under way may still fail; nobody is interested any more.
    socket.on('error', ignore);
    socket.destroy();
  }

  #next(): void {
    this.#delay?.cancel();
    this.#delay = undefined;
    for (let address = this.#waiting.shift(); address !== undefined; address = this.#waiting.shift()) {
      if (this.#try(address)) {
        if (this.#waiting.length > 0) {
          this.#delay = this.#wheel.after(CONNECTION_ATTEMPT_DELAY_MS, () => this.#next());
        }
        return;
      }
    }
    if (this.#attempts.size > 0) return;
    this.#end();
    this.#handlers.onFailed(summaryOf(this.#failures));
  }

  /** Whether a connect() to it is under way now. */
  #try(address: string): boolean {
    const refusal = this.#plan.refuse(address);
    if (refusal !== undefined) {
      this.#failures.push(refusal);
      return false;
    }
    let socket: Socket;
    try {
      socket = this.#connect(address, this.#plan.port);
    } catch (error) {
      this.#failures.push({ reason: 'target_unreachable', detail: `${address}: ${messageOf(error)}` });
      return false;
    }
    // Nothing is read before the session owns the socket.
    socket.pause();
    const timer = this.#wheel.after(this.#plan.connectTimeoutMs, () =>
      this.#failed(attempt, { reason: 'target_timeout', detail: `no answer from ${address}` }),
    );
    const attempt: Attempt = { address, socket, timer };
    this.#attempts.add(attempt);
    socket.once('error', (error) => {
      const code = foreignCodeOf(error);
      const reason = code === 'ETIMEDOUT' ? 'target_timeout' : 'target_unreachable';
      this.#failed(attempt, {
        reason,
        detail: `${address}: ${code ?? messageOf(error)}`,
        isRefused: code === 'ECONNREFUSED',
      });
    });
    socket.once('connect', () => {
      timer.cancel();
      this.#attempts.delete(attempt);
      socket.removeAllListeners('error');
      this.#end();
      this.#handlers.onConnected(socket, address);
    });
    return true;
  }

  #failed(attempt: Attempt, failure: DialFailure): void {
    this.#drop(attempt);
    this.#failures.push(failure);
    this.#next();
  }
}

/** Addresses that were not dialled at all say less about the target than one that was. */
const REFUSALS: ReadonlySet<string> = new Set<DialFailure['reason']>(['guard_denied', 'managed_denied']);

/** What became of every address, under the reason of the last that was dialled. */
const summaryOf = (failures: readonly DialFailure[]): DialFailure => {
  const last = failures.findLast(({ reason }) => !REFUSALS.has(reason)) ?? failures.at(-1);
  return last === undefined
    ? { reason: 'target_unreachable', detail: 'no address to dial' }
    : { ...last, detail: failures.map(({ detail }) => detail).join('; ') };
};

const ignore = (): void => undefined;
