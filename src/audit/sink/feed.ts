import type { Clock, Timer } from '../../runtime/index.ts';
import type { Backlog, SinkEvent } from './backlog.ts';

/** What a receiver said of events beside taking them. */
export interface Verdict {
  /** Of these, how many it refused for what they are. */
  readonly refused?: number;
  /** It was never heard to say that it has them. */
  readonly isUnconfirmed?: boolean;
}

/** What a sink takes events from, in order; after a session that failed they come again. */
export interface Feed {
  /** The next events, about this many bytes; none when there are none now. @throws what the disk throws. */
  take(maxBytes: number): readonly SinkEvent[];
  /** Resolves when there is something to take, after `waitMs`, or when nothing more will be waited for. */
  arrival(waitMs: number): Promise<void>;
  /** The receiver has everything up to this event, for good. */
  confirm(last: SinkEvent, verdict?: Verdict): void;
}

/** One way of handing events over. */
export interface LiveSink {
  /**
   * Hands over what the feed has; resolves when there is nothing more for now and all of it is confirmed.
   * @throws what stood in the way; what was not confirmed comes again.
   */
  run(feed: Feed, signal: AbortSignal): Promise<void>;
}

/** The backlog with a way to wait for it. */
export class BacklogFeed implements Feed {
  readonly #backlog: Backlog;
  readonly #clock: Clock;
  readonly #onConfirmed: (last: SinkEvent, count: number, verdict: Verdict) => void;
  readonly #waiting = new Set<() => void>();
  #draining = false;

  constructor(
    backlog: Backlog,
    clock: Clock,
    onConfirmed: (last: SinkEvent, count: number, verdict: Verdict) => void,
  ) {
    this.#backlog = backlog;
    this.#clock = clock;
    this.#onConfirmed = onConfirmed;
  }

  take(maxBytes: number): readonly SinkEvent[] {
    return this.#backlog.read(maxBytes);
  }

  async arrival(waitMs: number): Promise<void> {
    const untilMs = this.#clock.monotonicMs() + waitMs;
    for (;;) {
      const leftMs = untilMs - this.#clock.monotonicMs();
      if (this.#backlog.hasUnread || this.#draining || leftMs <= 0) return;
      await this.#change(leftMs);
    }
  }

  confirm(last: SinkEvent, verdict: Verdict = {}): void {
    this.#onConfirmed(last, this.#backlog.confirm(last), verdict);
  }

  /** Resolves when there is something to hand over, or nothing more will be waited for. */
  async some(): Promise<void> {
    while (this.#backlog.events === 0 && !this.#draining) await this.#change(undefined);
  }

  /** There may be more. */
  wake(): void {
    for (const look of this.#waiting) look();
  }

  /** From now on nobody waits for events. */
  drain(): void {
    this.#draining = true;
    this.wake();
  }

  #change(waitMs: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      let timer: Timer | undefined = undefined;
      const look = (): void => {
        this.#waiting.delete(look);
        timer?.cancel();
        resolve();
      };
      this.#waiting.add(look);
      if (waitMs !== undefined) timer = this.#clock.after(waitMs, look);
    });
  }
}
