import type { VerifyProgress } from '../../audit/index.ts';
import { type Clock, systemClock } from '../../runtime/index.ts';
import type { Output } from '../output.ts';

/** A line that is replaced is replaced so often; one that stays is added so often. */
const TERMINAL_PERIOD_MS = 250;
const LINE_PERIOD_MS = 5_000;
const MS_PER_SECOND = 1_000;
const SECONDS_PER_MINUTE = 60;
const MINUTES_PER_HOUR = 60;

const count = new Intl.NumberFormat('en-US');

/** Like `42 s`, `3 min 5 s`, `2 h 7 min`. */
export const durationText = (ms: number): string => {
  const seconds = Math.max(Math.round(ms / MS_PER_SECOND), 0);
  if (seconds < SECONDS_PER_MINUTE) return `${seconds} s`;
  const minutes = Math.floor(seconds / SECONDS_PER_MINUTE);
  if (minutes < MINUTES_PER_HOUR) return `${minutes} min ${seconds % SECONDS_PER_MINUTE} s`;
  return `${Math.floor(minutes / MINUTES_PER_HOUR)} h ${minutes % MINUTES_PER_HOUR} min`;
};

/** How far a verification is, how fast it goes, and how long it will take at that rate. */
export const progressText = ({ events, total }: VerifyProgress, tookMs: number): string => {
  const share = total === 0 ? 1 : events / total;
  const done = `${count.format(events)} of ${count.format(total)} events (${Math.floor(share * 100)} %)`;
  if (events === 0 || tookMs <= 0) return done;
  const perSecond = Math.round((events / tookMs) * MS_PER_SECOND);
  const left = durationText((tookMs / events) * (total - events));
  return `${done}, ${count.format(perSecond)}/s, ${left} left`;
};

export interface ProgressOptions {
  /** Also where there is no terminal: a line every few seconds on stderr. */
  readonly lines: boolean;
  readonly clock?: Clock;
}

/** Shows how far a verification is. */
export const verifyProgress = (
  output: Output,
  { lines, clock = systemClock }: ProgressOptions,
): ((done: VerifyProgress) => void) => {
  const startedMs = clock.monotonicMs();
  const isLine = lines && !output.showsProgress;
  const periodMs = isLine ? LINE_PERIOD_MS : TERMINAL_PERIOD_MS;
  let shownMs = startedMs;
  return (done) => {
    const nowMs = clock.monotonicMs();
    if (nowMs - shownMs < periodMs) return;
    shownMs = nowMs;
    const text = progressText(done, nowMs - startedMs);
    if (isLine) output.note(text);
    else output.progress(text);
  };
};
