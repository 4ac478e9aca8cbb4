import { AppError, type Clock } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A duration such as `30s`, `10m`, `2h`, `1d`, in milliseconds. @throws AppError ERR_CLI_USAGE naming the option */
export const durationMs = (option: string, text: string): number => {
  const found = /^(\d{1,9})([smhd])$/.exec(text);
  const unit = found?.[2] as keyof typeof UNIT_MS | undefined;
  if (unit !== undefined) return Number(found?.[1]) * UNIT_MS[unit];
  throw new AppError<CliErrorCode>(
    'ERR_CLI_USAGE',
    `${option} ${JSON.stringify(text)} is not like 30s, 10m, 2h, 1d`,
  );
};

/** An instant: so long ago, or RFC 3339 with its zone. Milliseconds since the epoch. @throws AppError ERR_CLI_USAGE */
export const momentMs = (option: string, text: string, clock: Clock): number => {
  if (/^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$/.test(text)) {
    const ms = Date.parse(text);
    if (!Number.isNaN(ms)) return ms;
  }
  if (/^\d{1,9}[smhd]$/.test(text)) return clock.nowMs() - durationMs(option, text);
  throw new AppError<CliErrorCode>(
    'ERR_CLI_USAGE',
    `${option} ${JSON.stringify(text)} is neither like 30s, 10m, 2h, 30d nor an instant like 2026-11-01T00:00:00Z`,
  );
};
