import type { Clock, Timer } from '../../runtime/index.ts';
import { CHECK_EVERY_MS, DEAD_AFTER_BUSY_MS, DEAD_AFTER_MS, PING_EVERY_MS } from './constants.ts';

/** PINGs whose time is remembered for the round trip. */
const MAX_REMEMBERED = 16;
/** While this many wait for their answers none is sent out of turn, so that those in turn are not forgotten. */
const MAX_OUT_OF_TURN = 8;
/** Weight of a new round-trip sample (RFC 6298 §2.3). */
const RTT_GAIN = 1 / 8;

export interface LivenessHost {
  sendPing(opaque: number): void;
  /** The peer is gone; nothing is called afterwards. */
  dead(detail: string): void;
  /** Called with each check, every `CHECK_EVERY_MS`. */
  check(nowMs: number): void;
  /** Monotonic time when the link last took all that it had been handed, and whether it has more now. */
  readonly lastTakenMs: number;
  readonly congested: boolean;
}

/**
 * Sends PINGs and tells when the peer is dead: no proof of a round trip for 30 s, or for 120 s while bytes still
 * arrive and the own send queue still shrinks.
 */
export class Liveness {
  readonly #clock: Clock;
  readonly #host: LivenessHost;
  readonly #timer: Timer;
  readonly #sentMs = new Map<number, number>();
  #checks = 0;
  #opaque = 0;
  #lastBytesMs: number;
  /** When the oldest PING without proof was sent. */
  #unprovedMs: number | undefined;
  #rttMs: number | undefined;
  #leastRttMs: number | undefined;

  constructor(clock: Clock, host: LivenessHost) {
    this.#clock = clock;
    this.#host = host;
    this.#lastBytesMs = clock.monotonicMs();
    this.#timer = clock.every(CHECK_EVERY_MS, () => this.#check());
  }

  /** Smoothed round trip. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** The shortest round trip so far: the link's own, without queues. */
  get leastRttMs(): number | undefined {
    return this.#leastRttMs;
  }

  /** Asks for a first round-trip sample; an answer is not demanded yet. */
  start(): void {
    this.#ping();
  }

  bytesArrived(): void {
    this.#lastBytesMs = this.#clock.monotonicMs();
  }

  /** Something came that the peer could only say in answer to what was sent. */
  proved(): void {
    this.#unprovedMs = undefined;
  }

  /** False for an answer to a PING that was not sent. */
  pong(opaque: number): boolean {
    const sentMs = this.#sentMs.get(opaque);
    if (sentMs === undefined) return false;
    this.#sentMs.delete(opaque);
    const sampleMs = this.#clock.monotonicMs() - sentMs;
    this.#rttMs = this.#rttMs === undefined ? sampleMs : this.#rttMs + RTT_GAIN * (sampleMs - this.#rttMs);
    this.#leastRttMs = Math.min(sampleMs, this.#leastRttMs ?? sampleMs);
    this.proved();
    return true;
  }

  stop(): void {
    this.#timer.cancel();
  }

  /** Sends a PING out of turn, unless several wait already, which an answer can come to as well. */
  ping(): void {
    if (this.#sentMs.size < MAX_OUT_OF_TURN) this.#ping();
  }

  #ping(): void {
    this.#opaque += 1;
    this.#sentMs.set(this.#opaque, this.#clock.monotonicMs());
    if (this.#sentMs.size > MAX_REMEMBERED) this.#sentMs.delete(this.#opaque - MAX_REMEMBERED);
    this.#host.sendPing(this.#opaque);
  }

  #check(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#checks += 1;
    const problem = this.#problem(nowMs);
    if (problem !== undefined) {
      this.stop();
      this.#host.dead(problem);
      return;
    }
    if (this.#checks % (PING_EVERY_MS / CHECK_EVERY_MS) === 0) {
      this.#unprovedMs ??= nowMs;
      this.#ping();
    }
    this.#host.check(nowMs);
  }

  #problem(nowMs: number): string | undefined {
    if (this.#unprovedMs === undefined) return undefined;
    const ageMs = nowMs - this.#unprovedMs;
    if (ageMs <= DEAD_AFTER_MS) return undefined;
    const arriving = nowMs - this.#lastBytesMs <= DEAD_AFTER_MS;
    const shrinking = !this.#host.congested || nowMs - this.#host.lastTakenMs <= DEAD_AFTER_MS;
    if (arriving && shrinking && ageMs <= DEAD_AFTER_BUSY_MS) return undefined;
    return `no proof of a round trip for ${Math.round(ageMs)} ms`;
  }
}
