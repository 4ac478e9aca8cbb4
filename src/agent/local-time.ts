import type { PolicyTime } from '../policy/index.ts';

const MINUTE_MS = 60_000;
const SECOND_MS = 1_000;

/** Length of `2026-01-01T00:00:00`, what comes before the fraction. */
const SECONDS_LENGTH = 19;

/**
 * Makes `time` of the policy input in one zone. Zone arithmetic is the dear part and changes once a minute at
 * most (every offset in use today is a whole number of minutes), so it is kept for the minute.
 */
export const policyTimeIn = (zone: string): ((nowMs: number) => PolicyTime) => {
  const format = new Intl.DateTimeFormat('en-GB', {
    timeZone: zone,
    calendar: 'gregory',
    numberingSystem: 'latn',
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
  });
  let minute = Number.NaN;
  let local: PolicyTime['local'] = { date: '', weekday: '', hour: 0, minute: 0, zone };
  let second = Number.NaN;
  let rfc3339 = '';
  return (nowMs) => {
    const unixMs = Math.floor(nowMs);
    const nowMinute = Math.floor(unixMs / MINUTE_MS);
    if (nowMinute !== minute) {
      const parts = Object.fromEntries(format.formatToParts(unixMs).map(({ type, value }) => [type, value]));
      local = {
        date: `${parts['year'] ?? ''}-${parts['month'] ?? ''}-${parts['day'] ?? ''}`,
        weekday: (parts['weekday'] ?? '').toLowerCase(),
        hour: Number(parts['hour']),
        minute: Number(parts['minute']),
        zone,
      };
      minute = nowMinute;
    }
    const nowSecond = Math.floor(unixMs / SECOND_MS);
    if (nowSecond !== second) {
      rfc3339 = `${new Date(nowSecond * SECOND_MS).toISOString().slice(0, SECONDS_LENGTH)}Z`;
      second = nowSecond;
    }
    return { unix_ms: unixMs, rfc3339, local };
  };
};
