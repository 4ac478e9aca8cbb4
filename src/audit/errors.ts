import { AppError, type AppErrorOptions } from '../runtime/index.ts';

export type AuditErrorCode =
  | 'ERR_AUDIT_UNAVAILABLE'
  | 'ERR_AUDIT_OVER_SHARE'
  | 'ERR_AUDIT_SPOOL_OPEN'
  | 'ERR_AUDIT_SPOOL_IN_USE'
  | 'ERR_AUDIT_KEY_INVALID'
  | 'ERR_AUDIT_TRUST_INVALID'
  | 'ERR_AUDIT_DATABASE'
  | 'ERR_AUDIT_RESUME_INVALID'
  | 'ERR_AUDIT_VERIFY_STOPPED'
  | 'ERR_AUDIT_SCHEMA_NEWER'
  | 'ERR_AUDIT_MIGRATION_FAILED'
  | 'ERR_AUDIT_QUERY_UNKNOWN'
  | 'ERR_AUDIT_QUERY_FAILED'
  | 'ERR_AUDIT_STREAM_UNKNOWN'
  | 'ERR_AUDIT_EVENT_UNKNOWN'
  | 'ERR_AUDIT_UNPROVABLE'
  | 'ERR_AUDIT_PROOF_INVALID'
  | 'ERR_AUDIT_RETENTION_REFUSED'
  | 'ERR_AUDIT_CANONICAL'
  | 'ERR_AUDIT_EXPORT_INVALID'
  | 'ERR_AUDIT_EXPORT_UNRECORDED'
  | 'ERR_AUDIT_EXPORT_UNSOUND'
  | 'ERR_AUDIT_EXPORT_WRITE'
  | 'ERR_AUDIT_IMPORT_GAP'
  | 'ERR_AUDIT_IMPORT_REFUSED'
  | 'ERR_AUDIT_IMPORT_SITE';

/** An error of the audit area; docs/errors.md explains each code. */
export const auditError = (
  code: AuditErrorCode,
  message: string,
  options: AppErrorOptions = {},
): AppError<AuditErrorCode> => new AppError(code, message, options);
