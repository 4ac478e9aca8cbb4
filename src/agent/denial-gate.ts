import type { AuditEventInput } from '../audit/index.ts';
import type { Clock } from '../runtime/index.ts';

/** Identical denials within this time … */
export const DENIAL_WINDOW_MS = 10_000;
/** … beyond this many are counted into one event instead of written one by one (audit.md, Events). */
export const DENIALS_WRITTEN = 50;
const MAX_KEYS = 4_096;

/** The two events that tell of a stream that was not opened. */
export type DenialEvent = Extract<AuditEventInput, { type: 'stream.decision' | 'stream.refused' }>;

interface Window {
  startMs: number;
  seen: number;
  /** How many were held back since the last event was written, and the newest of them. */
  held: number;
  newest: DenialEvent | undefined;
}

const withCount = (event: DenialEvent, count: number): DenialEvent =>
  count > 1 ? ({ ...event, data: { ...event.data, count } } as DenialEvent) : event;

/**
 * Repeated identical denials of one principal coalesce: the first 50 in ten seconds are written, later ones are
 * counted, and the count goes into the next event that is written, at the latest when the ten seconds are over.
 */
export class DenialGate {
  readonly #clock: Clock;
  readonly #windows = new Map<string, Window>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The event to be written for this denial; undefined when it is only counted. */
  admit(key: string, event: DenialEvent): DenialEvent | undefined {
    const nowMs = this.#clock.monotonicMs();
    let window = this.#windows.get(key);
    if (window === undefined) {
      window = { startMs: nowMs, seen: 0, held: 0, newest: undefined };
      this.#windows.set(key, window);
    } else if (nowMs - window.startMs >= DENIAL_WINDOW_MS) {
      window.startMs = nowMs;
      window.seen = 0;
    }
    window.seen += 1;
    // With too many different denials to keep apart, each is written.
    const isHeld = window.seen > DENIALS_WRITTEN && this.#windows.size <= MAX_KEYS;
    if (isHeld) {
      window.held += 1;
      window.newest = event;
      return undefined;
    }
    const count = window.held + 1;
    window.held = 0;
    window.newest = undefined;
    return withCount(event, count);
  }

  /** What was held back and whose window is over (or all of it), one event per kind of denial. */
  release(all = false): DenialEvent[] {
    const nowMs = this.#clock.monotonicMs();
    const events: DenialEvent[] = [];
    for (const [key, { startMs, held, newest }] of this.#windows) {
      if (!all && nowMs - startMs < DENIAL_WINDOW_MS) continue;
      this.#windows.delete(key);
      if (newest !== undefined) events.push(withCount(newest, held));
    }
    return events;
  }
}
