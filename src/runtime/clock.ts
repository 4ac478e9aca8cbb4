/** A pending timer; `unref` lets the process end while it is pending. */
export interface Timer {
  cancel(): void;
  unref(): Timer;
}

/** All time in the project comes from here, so that tests can inject it. */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch; may step. */
  nowMs(): number;
  /** Monotonic milliseconds with fraction; only differences mean anything. */
  monotonicMs(): number;
  /** Calls back once after `delayMs`. */
  after(delayMs: number, call: () => void): Timer;
  /** Calls back every `periodMs`. */
  every(periodMs: number, call: () => void): Timer;
}

const timer = (handle: NodeJS.Timeout, cancel: (handle: NodeJS.Timeout) => void): Timer => ({
  cancel: () => cancel(handle),
  unref() {
    handle.unref();
    return this;
  },
});

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after: (delayMs, call) => timer(setTimeout(call, delayMs), clearTimeout),
  every: (periodMs, call) => timer(setInterval(call, periodMs), clearInterval),
};

/** Resolves after `delayMs` of the given clock; rejects with the signal's reason when aborted. */
export const sleep = (clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return;
    }
    const abort = (): void => {
      pending.cancel();
      reject(signal?.reason as Error);
    };
    const pending = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    });
    signal?.addEventListener('abort', abort, { once: true });
  });
