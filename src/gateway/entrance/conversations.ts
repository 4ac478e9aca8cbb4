import type { Socket } from 'node:net';
import { canonicalAddress, type TimerWheel } from '../../runtime/index.ts';

/** From the client's connect to the end of its request. */
export const HANDSHAKE_MS = 10_000;
/** How long a client that was refused may take to read why, and to close. */
export const FAREWELL_MS = 2_000;
/** Clients that have not said yet what they want: of one entrance, and of one address at it. */
export const MAX_HANDSHAKES = 4_096;
export const MAX_HANDSHAKES_PER_CLIENT = 1_024;

export interface ConversationLimits {
  readonly handshakes?: number;
  readonly handshakesPerClient?: number;
}

/** One client between its connect and the request that it makes. */
export interface Handshake {
  /** It has made its request, or is gone: it is no longer counted, nor timed. Once or often. */
  over(): void;
}

const ignore = (): void => undefined;

/** The sockets of one entrance that no stream has: those that say what they want, and those that are told why not. */
export class Conversations {
  readonly #wheel: TimerWheel;
  readonly #limits: Required<ConversationLimits>;
  readonly #shaking = new Map<Socket, Handshake>();
  readonly #byClient = new Map<string, number>();
  readonly #ending = new Set<Socket>();

  constructor(wheel: TimerWheel, limits: ConversationLimits = {}) {
    this.#wheel = wheel;
    this.#limits = {
      handshakes: limits.handshakes ?? MAX_HANDSHAKES,
      handshakesPerClient: limits.handshakesPerClient ?? MAX_HANDSHAKES_PER_CLIENT,
    };
  }

  /** Handshakes under way. */
  get count(): number {
    return this.#shaking.size;
  }

  /**
   * A client has come.
   *
   * @param onLate its request was not complete in time; the handshake is over then
   * @returns undefined when there are too many
   */
  begin(socket: Socket, onLate: () => void): Handshake | undefined {
    const client = canonicalAddress(socket.remoteAddress ?? '') ?? '';
    const ofClient = this.#byClient.get(client) ?? 0;
    const { handshakes, handshakesPerClient } = this.#limits;
    if (this.#shaking.size >= handshakes || ofClient >= handshakesPerClient) return undefined;
    this.#byClient.set(client, ofClient + 1);
    const timer = this.#wheel.after(HANDSHAKE_MS, () => {
      handshake.over();
      onLate();
    });
    const over = (): void => {
      if (!this.#shaking.delete(socket)) return;
      timer.cancel();
      const left = (this.#byClient.get(client) ?? 1) - 1;
      if (left === 0) this.#byClient.delete(client);
      else this.#byClient.set(client, left);
    };
    const handshake: Handshake = { over };
    this.#shaking.set(socket, handshake);
    socket.on('error', ignore);
    socket.once('close', over);
    return handshake;
  }

  /**
   * Says a last word and ends the socket. What the client still sends is read and dropped, because a close over unread
   * bytes is a reset, and may overtake the word.
   */
  sayAndEnd(socket: Socket, word: Buffer | string): void {
    if (socket.destroyed || this.#ending.has(socket)) return;
    this.#ending.add(socket);
    const timer = this.#wheel.after(FAREWELL_MS, () => socket.destroy());
    socket.once('close', () => {
      timer.cancel();
      this.#ending.delete(socket);
    });
    socket.on('error', ignore);
    socket.on('data', ignore);
    socket.end(word);
    socket.resume();
  }

  /** Destroys every socket that no stream has. */
  destroyAll(): void {
    for (const socket of [...this.#shaking.keys(), ...this.#ending]) socket.destroy();
  }
}
