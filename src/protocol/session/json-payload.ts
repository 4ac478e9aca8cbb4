import { AppError } from '../../runtime/index.ts';
import type { SessionErrorCode } from './errors.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

/** @throws AppError `code` for anything but one JSON object in UTF-8. */
export const readJsonObject = (payload: Buffer, code: SessionErrorCode, frame: string): JsonObject => {
  let value: unknown;
  try {
    value = JSON.parse(payload.toString('utf8'));
  } catch (cause) {
    throw new AppError<SessionErrorCode>(code, `payload of ${frame} is not json`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AppError<SessionErrorCode>(code, `payload of ${frame} is not a json object`);
  }
  return value as JsonObject;
};
