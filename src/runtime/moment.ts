const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A duration such as `30s`, `10m`, `2h`, `1d`, in milliseconds; undefined for anything else. */
export const parseDurationMs = (text: string): number | undefined => {
  const found = /^(\d{1,9})([smhd])$/.exec(text);
  return found === null ? undefined : Number(found[1]) * UNIT_MS[found[2] as keyof typeof UNIT_MS];
};

const INSTANT = /^(\d{4}-\d{2}-(\d{2}))(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$/;

/** A day (its start in UTC) or an RFC 3339 instant, in milliseconds since the epoch; undefined for anything else. */
export const parseInstantMs = (text: string): number | undefined => {
  const found = INSTANT.exec(text);
  if (found === null) return undefined;
  const ms = Date.parse(text);
  // `Date.parse` turns 31 April into 1 May.
  const day = new Date(Date.parse(found[1] ?? '')).getUTCDate();
  return Number.isNaN(ms) || day !== Number(found[2]) ? undefined : ms;
};
