import { AppError, type AppErrorOptions } from '../runtime/index.ts';

export type AuditErrorCode =
  | 'ERR_AUDIT_UNAVAILABLE'
  | 'ERR_AUDIT_SPOOL_OPEN'
  | 'ERR_AUDIT_SPOOL_IN_USE'
  | 'ERR_AUDIT_KEY_INVALID'
  | 'ERR_AUDIT_TRUST_INVALID'
  | 'ERR_AUDIT_DATABASE'
  | 'ERR_AUDIT_SCHEMA_NEWER'
  | 'ERR_AUDIT_MIGRATION_FAILED'
  | 'ERR_AUDIT_QUERY_UNKNOWN'
  | 'ERR_AUDIT_QUERY_FAILED'
  | 'ERR_AUDIT_STREAM_UNKNOWN'
  | 'ERR_AUDIT_CANONICAL';

/** An error of the audit area; docs/errors.md explains each code. */
export const auditError = (
  code: AuditErrorCode,
  message: string,
  options: AppErrorOptions = {},
): AppError<AuditErrorCode> => new AppError(code, message, options);
