import { readFileSync } from 'node:fs';
import { AppError } from '../../runtime/index.ts';
import type { DisclosedKeyView } from '../../control/index.ts';
import type { Output } from '../output.ts';
import type { ManageErrorCode } from './errors.ts';

/** `CONN/NAME` or `namespace/NAME`. @throws AppError ERR_MANAGE_USAGE */
export const parseAuthRule = (text: string): { scope: string; name: string; path: string } => {
  const at = text.indexOf('/');
  if (at <= 0 || at === text.length - 1)
    throw new AppError<ManageErrorCode>(
      'ERR_MANAGE_USAGE',
      `auth-rule ${JSON.stringify(text)} is not CONNECTION/NAME or namespace/NAME`,
    );
  const scope = text.slice(0, at);
  const name = text.slice(at + 1);
  return { scope, name, path: `/auth-rules/${encodeURIComponent(scope)}/${encodeURIComponent(name)}` };
};

const UNIT_S: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** Seconds of `90s`, `30m`, `24h`, `7d`. @throws AppError ERR_MANAGE_USAGE */
export const parseDuration = (text: string): number => {
  const match = /^(\d{1,9})([smhd])$/.exec(text);
  const unit = UNIT_S[match?.[2] ?? ''];
  if (unit === undefined)
    throw new AppError<ManageErrorCode>(
      'ERR_MANAGE_USAGE',
      `${JSON.stringify(text)} is not a time such as 30m, 24h or 7d`,
    );
  return Number(match?.[1]) * unit;
};

/** The number of `--if-version`. @throws AppError ERR_MANAGE_USAGE */
export const parseVersion = (text: string): number => {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new AppError<ManageErrorCode>(
    'ERR_MANAGE_USAGE',
    `${JSON.stringify(text)} is not a version such as 3`,
  );
};

/** `name=value` options, collected. @throws AppError ERR_MANAGE_USAGE */
export const collectLabel = (text: string, all: Record<string, string>): Record<string, string> => {
  const at = text.indexOf('=');
  if (at <= 0)
    throw new AppError<ManageErrorCode>(
      'ERR_MANAGE_USAGE',
      `label ${JSON.stringify(text)} is not NAME=VALUE`,
    );
  return { ...all, [text.slice(0, at)]: text.slice(at + 1) };
};

/** Shows keys the one time that they are shown. */
export const showKeys = (output: Output, keys: readonly DisclosedKeyView[]): void => {
  for (const key of keys) {
    output.line(`${key.connection ?? 'namespace'}/${key.auth_rule} ${key.slot} ${key.key_id}`);
    output.line(`  ${key.connection_string}`);
  }
};

/** Everything on standard input, at most 64 KiB. */
export const readStandardInput = (): string => readFileSync(0, 'utf8').slice(0, 64 * 1024);
