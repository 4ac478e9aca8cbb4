/** Offsets change at most this often in practice (every zone's offsets are multiples of it). */
const OFFSET_STEP_MS = 15 * 60 * 1000;

/**
 * A function that gives the time of day in an IANA zone as `YYYY-MM-DDTHH:MM:SS.mmm`, or `undefined` for a
 * zone that this runtime does not know. The zone's offset is looked up once per quarter of an hour.
 */
export const localTimeIn = (zone: string): ((atMs: number) => string) | undefined => {
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
  } catch {
    return undefined;
  }
  let step = Number.NaN;
  let offsetMs = 0;
  const offsetAt = (atMs: number): number => {
    const parts = new Map(format.formatToParts(atMs).map((part) => [part.type, Number(part.value)]));
    const at = (name: Intl.DateTimeFormatPartTypes): number => parts.get(name) ?? 0;
    const local = Date.UTC(at('year'), at('month') - 1, at('day'), at('hour'), at('minute'), at('second'));
    return local - Math.floor(atMs / 1000) * 1000;
  };
  return (atMs) => {
    const now = Math.floor(atMs / OFFSET_STEP_MS);
    if (now !== step) {
      step = now;
      offsetMs = offsetAt(atMs);
    }
    return new Date(atMs + offsetMs).toISOString().slice(0, -1);
  };
};
