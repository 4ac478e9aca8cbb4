import type { Clock, TimerWheel, WheelEntry } from '../runtime/index.ts';
import { bytesOf, type LiveStream } from './live-streams.ts';

/** How often the bytes of a stream with `max_bytes` are looked at: it may run over by what moves meanwhile. */
export const BYTES_CHECK_MS = 100;
/** Silence is measured at a quarter of `idle_seconds`, so a stream is cut at most a quarter late. */
const IDLE_CHECKS = 4;
const SECOND_MS = 1_000;

interface Watch {
  entry: WheelEntry | undefined;
  /** Byte count when it last changed, and when that was seen. */
  bytes: number;
  movedMs: number;
  recheckDueMs: number;
}

/** Enforces the obligations of live streams with one coarse deadline per stream. */
export class Keeper {
  readonly #clock: Clock;
  readonly #wheel: TimerWheel;
  readonly #recheck: (stream: LiveStream) => void;
  readonly #watches = new Map<LiveStream, Watch>();

  /** @param recheck is told of each stream whose next re-evaluation is due */
  constructor(clock: Clock, wheel: TimerWheel, recheck: (stream: LiveStream) => void) {
    this.#clock = clock;
    this.#wheel = wheel;
    this.#recheck = recheck;
  }

  /** Starts watching, or takes up new obligations of a stream it watches already. */
  watch(stream: LiveStream): void {
    const nowMs = this.#clock.monotonicMs();
    const old = this.#watches.get(stream);
    old?.entry?.cancel();
    const watch: Watch = {
      entry: undefined,
      bytes: old?.bytes ?? bytesOf(stream),
      movedMs: old?.movedMs ?? nowMs,
      recheckDueMs: nowMs + this.#recheckDelayMs(stream),
    };
    this.#watches.set(stream, watch);
    this.#arm(stream, watch, nowMs);
  }

  unwatch(stream: LiveStream): void {
    this.#watches.get(stream)?.entry?.cancel();
    this.#watches.delete(stream);
  }

  #recheckDelayMs(stream: LiveStream): number {
    const everyMs = stream.obligations.recheck_seconds * SECOND_MS;
    if (stream.recheckAt === null) return everyMs;
    const untilMs = Date.parse(stream.recheckAt) - this.#clock.nowMs();
    return Number.isNaN(untilMs) ? everyMs : Math.max(0, Math.min(everyMs, untilMs));
  }

  #arm(stream: LiveStream, watch: Watch, nowMs: number): void {
    const { max_seconds, max_bytes, idle_seconds } = stream.obligations;
    let delayMs = watch.recheckDueMs - nowMs;
    if (max_seconds !== undefined) {
      delayMs = Math.min(delayMs, stream.startedMs + max_seconds * SECOND_MS - nowMs);
    }
    if (max_bytes !== undefined) delayMs = Math.min(delayMs, BYTES_CHECK_MS);
    if (idle_seconds !== undefined) delayMs = Math.min(delayMs, (idle_seconds * SECOND_MS) / IDLE_CHECKS);
    watch.entry = this.#wheel.after(Math.max(0, delayMs), () => this.#check(stream, watch));
  }

  #check(stream: LiveStream, watch: Watch): void {
    const nowMs = this.#clock.monotonicMs();
    const { max_seconds, max_bytes, idle_seconds } = stream.obligations;
    if (max_seconds !== undefined && nowMs - stream.startedMs >= max_seconds * SECOND_MS) {
      stream.cut('max_seconds', `open for ${max_seconds} s`);
      return;
    }
    const bytes = bytesOf(stream);
    if (max_bytes !== undefined && bytes >= max_bytes) {
      stream.cut('max_bytes', `${bytes} bytes moved, ${max_bytes} allowed`);
      return;
    }
    if (bytes !== watch.bytes) {
      watch.bytes = bytes;
      watch.movedMs = nowMs;
    }
    if (idle_seconds !== undefined && nowMs - watch.movedMs >= idle_seconds * SECOND_MS) {
      stream.cut('idle_timeout', `no byte for ${idle_seconds} s`);
      return;
    }
    if (nowMs >= watch.recheckDueMs) {
      // The re-evaluation sets the next due time itself; this one is for the case that it never answers.
      watch.recheckDueMs = nowMs + stream.obligations.recheck_seconds * SECOND_MS;
      this.#recheck(stream);
    }
    if (this.#watches.get(stream) === watch) this.#arm(stream, watch, nowMs);
  }
}
