import type { Clock } from '../runtime/index.ts';

/** Work of one turn of the event loop ends after this; a byte that waits behind it waits no longer. */
export const TURN_MS = 2;

/**
 * Work that nobody waits for, in pieces between which the event loop moves bytes: each turn takes pieces in order until
 * `TURN_MS` have passed, and at least one.
 */
export class Turns {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #waiting: (() => void)[] = [];
  #isScheduled = false;

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  /** Runs one piece, whose synchronous part should be far shorter than `TURN_MS`; resolves or rejects as it does. */
  run<T>(piece: () => T | Promise<T>): Promise<T> {
    return new Promise<T>((resolve) => {
      // What it throws rejects the inner promise.
      this.#waiting.push(() => resolve(new Promise<T>((inner) => inner(piece()))));
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    const untilMs = this.#clock.monotonicMs() + TURN_MS;
    let done = 0;
    do this.#waiting[done++]?.();
    while (done < this.#waiting.length && this.#clock.monotonicMs() < untilMs);
    this.#waiting.splice(0, done);
    this.#isScheduled = false;
    if (this.#waiting.length > 0) this.#schedule();
  }
}
