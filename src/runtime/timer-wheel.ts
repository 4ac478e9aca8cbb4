import type { Clock, Timer } from './clock.ts';

/** A due time that can be taken back. */
export interface WheelEntry {
  cancel(): void;
}

interface Entry extends WheelEntry {
  readonly call: () => void;
}

/** How much later than asked a call may come, unless told otherwise. */
export const DEFAULT_WHEEL_TICK_MS = 100;

/**
 * Thousands of coarse deadlines on one timer. A call comes at its time or up to one tick later; adding and
 * cancelling are one set operation. The one timer runs only while something is pending.
 */
export class TimerWheel {
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #slots = new Map<number, Set<Entry>>();
  #timer: Timer | undefined;
  /** The last tick whose calls were made; entries are only ever put after it. */
  #swept = 0;
  #sweeping = new Set<Entry>();
  #count = 0;

  constructor(clock: Clock, tickMs: number = DEFAULT_WHEEL_TICK_MS) {
    this.#clock = clock;
    this.#tickMs = tickMs;
  }

  /** How many entries are pending. */
  get pendingCount(): number {
    return this.#count;
  }

  /** Calls back once, not before `delayMs` have passed. */
  after(delayMs: number, call: () => void): WheelEntry {
    const nowMs = this.#clock.monotonicMs();
    if (this.#timer === undefined) {
      this.#swept = Math.floor(nowMs / this.#tickMs);
      this.#timer = this.#clock.every(this.#tickMs, () => this.#sweep()).unref();
    }
    const due = Math.max(this.#swept + 1, Math.ceil((nowMs + delayMs) / this.#tickMs));
    let slot = this.#slots.get(due);
    if (slot === undefined) {
      slot = new Set();
      this.#slots.set(due, slot);
    }
    const entries = slot;
    const entry: Entry = {
      call,
      cancel: () => {
        if (entries.delete(entry)) this.#lower();
      },
    };
    entries.add(entry);
    this.#count += 1;
    return entry;
  }

  /** Forgets everything pending. */
  close(): void {
    for (const slot of this.#slots.values()) slot.clear();
    this.#sweeping.clear();
    this.#count = 0;
    this.#stop();
  }

  #lower(): void {
    this.#count -= 1;
    if (this.#count === 0) this.#stop();
  }

  #stop(): void {
    this.#slots.clear();
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #sweep(): void {
    const now = Math.floor(this.#clock.monotonicMs() / this.#tickMs);
    while (this.#swept < now && this.#timer !== undefined) {
      this.#swept += 1;
      const slot = this.#slots.get(this.#swept);
      if (slot === undefined) continue;
      this.#slots.delete(this.#swept);
      this.#sweeping = slot;
      for (const entry of slot) {
        slot.delete(entry);
        this.#lower();
        entry.call();
      }
    }
  }
}
