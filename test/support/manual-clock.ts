import type { Clock, Timer } from '../../src/runtime/index.ts';

interface Pending {
  atMs: number;
  readonly periodMs: number | undefined;
  readonly call: () => void;
  readonly order: number;
}

/** A clock that moves only when told; timers fire in order of their time, then of their creation. */
export class ManualClock implements Clock {
  #nowMs: number;
  #monotonicMs = 0;
  #order = 0;
  readonly #pending = new Set<Pending>();

  constructor(startMs: number = Date.UTC(2026, 0, 1)) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  after(delayMs: number, call: () => void): Timer {
    return this.#add(delayMs, undefined, call);
  }

  every(periodMs: number, call: () => void): Timer {
    return this.#add(periodMs, periodMs, call);
  }

  /** Moves both clocks forward, firing what falls due on the way. */
  advance(byMs: number): void {
    const endMs = this.#monotonicMs + byMs;
    for (;;) {
      const due = [...this.#pending]
        .filter((pending) => pending.atMs <= endMs)
        .sort((a, b) => a.atMs - b.atMs || a.order - b.order)[0];
      if (due === undefined) break;
      this.#moveTo(Math.max(due.atMs, this.#monotonicMs));
      if (due.periodMs === undefined) this.#pending.delete(due);
      else due.atMs += due.periodMs;
      due.call();
    }
    this.#moveTo(endMs);
  }

  /** Steps the wall clock alone, as an administrator or NTP would. */
  stepWall(byMs: number): void {
    this.#nowMs += byMs;
  }

  /** How many timers are pending. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  #moveTo(monotonicMs: number): void {
    this.#nowMs += monotonicMs - this.#monotonicMs;
    this.#monotonicMs = monotonicMs;
  }

  #add(delayMs: number, periodMs: number | undefined, call: () => void): Timer {
    this.#order += 1;
    const pending: Pending = { atMs: this.#monotonicMs + delayMs, periodMs, call, order: this.#order };
    this.#pending.add(pending);
    const timer: Timer = {
      cancel: () => {
        this.#pending.delete(pending);
      },
      unref: () => timer,
    };
    return timer;
  }
}
