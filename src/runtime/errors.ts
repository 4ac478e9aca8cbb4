/** A stable machine-readable error code, listed in docs/errors.md. */
export type ErrorCode = `ERR_${string}`;

export interface AppErrorOptions {
  /** True when the same call may succeed later without any change by the caller. */
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

/**
 * The one error class of the project. Each folder declares its own literal union of codes.
 * Messages are lower case, name the offending value and the limit, and never hold a secret.
 */
export class AppError<Code extends ErrorCode = ErrorCode> extends Error {
  readonly code: Code;
  readonly retryable: boolean;

  constructor(code: Code, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

/** True for an error of ours, optionally of one code. */
export const isAppError = (value: unknown, code?: ErrorCode): value is AppError =>
  value instanceof AppError && (code === undefined || value.code === code);

/** The message of whatever was thrown, for logs and for the `cause` line of a terminal message. */
export const messageOf = (thrown: unknown): string =>
  thrown instanceof Error ? thrown.message || thrown.name : String(thrown);

const SYSTEM_REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is none',
  ENOTDIR: 'it is not a directory',
  EISDIR: 'it is a directory',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
};

/** Why the system refused a file, for people; the message of everything else. */
export const reasonOf = (thrown: unknown): string =>
  SYSTEM_REASONS[foreignCodeOf(thrown) ?? ''] ?? messageOf(thrown);

/** The `code` property that Node and Postgres put on their errors (`ECONNREFUSED`, `23505`), if any. */
export const foreignCodeOf = (thrown: unknown): string | undefined => {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown)) return undefined;
  return typeof thrown.code === 'string' ? thrown.code : undefined;
};
