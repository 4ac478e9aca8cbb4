import type { Clock } from '../../runtime/index.ts';

/** So many failures of one kind of stream within the window open its breaker. */
export const BREAKER_FAILURES = 3;
export const BREAKER_WINDOW_MS = 10_000;
/** While open, that kind of stream is denied without evaluation. */
export const BREAKER_OPEN_MS = 5_000;
/** Most kinds remembered; the oldest is forgotten first. */
const MAX_TRACKED = 4_096;

interface Failures {
  failedMs: number[];
  openUntilMs: number;
}

/**
 * Counts throws, timeouts and lost evaluators per kind of stream (connection and principal), so that a policy
 * that fails for one of them costs the others nothing. Alarms once each time a breaker opens.
 */
export class Breaker {
  readonly #clock: Clock;
  readonly #onAlarm: (key: string, failures: number) => void;
  readonly #records = new Map<string, Failures>();

  constructor(clock: Clock, onAlarm: (key: string, failures: number) => void) {
    this.#clock = clock;
    this.#onAlarm = onAlarm;
  }

  /** False as long as nothing failed, the ordinary case. */
  get hasFailures(): boolean {
    return this.#records.size > 0;
  }

  isOpen(key: string): boolean {
    if (this.#records.size === 0) return false;
    const record = this.#records.get(key);
    return record !== undefined && record.openUntilMs > this.#clock.monotonicMs();
  }

  /** True while a failure of this kind is recent: it is then evaluated alone, one at a time. */
  isSuspect(key: string): boolean {
    if (this.#records.size === 0) return false;
    const record = this.#records.get(key);
    if (record === undefined) return false;
    const last = record.failedMs.at(-1) ?? Number.NEGATIVE_INFINITY;
    if (last > this.#clock.monotonicMs() - BREAKER_WINDOW_MS) return true;
    this.#records.delete(key);
    return false;
  }

  failed(key: string): void {
    const nowMs = this.#clock.monotonicMs();
    const record = this.#records.get(key) ?? { failedMs: [], openUntilMs: Number.NEGATIVE_INFINITY };
    record.failedMs = record.failedMs.filter((at) => at > nowMs - BREAKER_WINDOW_MS);
    record.failedMs.push(nowMs);
    this.#records.delete(key);
    this.#records.set(key, record);
    if (record.failedMs.length >= BREAKER_FAILURES && record.openUntilMs <= nowMs) {
      record.openUntilMs = nowMs + BREAKER_OPEN_MS;
      this.#onAlarm(key, record.failedMs.length);
    }
    const oldest = this.#records.keys().next();
    if (this.#records.size > MAX_TRACKED && oldest.done !== true) this.#records.delete(oldest.value);
  }
}
