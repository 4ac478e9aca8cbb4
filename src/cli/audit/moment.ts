import { AppError, type Clock, parseDurationMs, parseInstantMs } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';

/** A duration such as `30s`, `10m`, `2h`, `1d`, in milliseconds. @throws AppError ERR_CLI_USAGE naming the option */
export const durationMs = (option: string, text: string): number => {
  const ms = parseDurationMs(text);
  if (ms !== undefined) return ms;
  throw new AppError<CliErrorCode>(
    'ERR_CLI_USAGE',
    `${option} ${JSON.stringify(text)} is not like 30s, 10m, 2h, 1d`,
  );
};

/** An instant: so long ago, a day, or RFC 3339 with its zone. Milliseconds since the epoch. @throws AppError ERR_CLI_USAGE */
export const momentMs = (option: string, text: string, clock: Clock): number => {
  const agoMs = parseDurationMs(text);
  const ms = agoMs === undefined ? parseInstantMs(text) : clock.nowMs() - agoMs;
  if (ms !== undefined) return ms;
  throw new AppError<CliErrorCode>(
    'ERR_CLI_USAGE',
    `${option} ${JSON.stringify(text)} is neither like 30s, 10m, 2h, 30d nor an instant like 2026-11-01T00:00:00Z`,
  );
};
