import type { Clock, Timer } from '../runtime/index.ts';

const CHECK_MS = 10_000;
/** A wall clock that moved this much against the monotonic one has been set. */
const STEP_MS = 1_000;

/** Calls back with the milliseconds by which somebody set the wall clock. */
export const watchClock = (clock: Clock, onStep: (stepMs: number) => void): Timer => {
  let offsetMs = clock.nowMs() - clock.monotonicMs();
  return clock
    .every(CHECK_MS, () => {
      const nowOffsetMs = clock.nowMs() - clock.monotonicMs();
      const stepMs = Math.round(nowOffsetMs - offsetMs);
      offsetMs = nowOffsetMs;
      if (Math.abs(stepMs) >= STEP_MS) onStep(stepMs);
    })
    .unref();
};
