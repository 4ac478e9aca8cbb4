export type {
  AuditHealth,
  AuditLog,
  AuditLogOptions,
  FileHooks,
  OutageMode,
  Recorded,
} from './audit-log.ts';
export { type AuthFailure, AuthFailures, COALESCE_MS } from './auth-failures.ts';
export { type AuditErrorCode, auditError } from './errors.ts';
export type { AuditEventInput, Origin } from './event/event.ts';
export { type EventData, eventDataSchemas } from './event/event-data.ts';
export { EVENT_TYPES, type EventClass, type EventType, isEventType } from './event/event-type.ts';
export { type Subject, subjectSchema } from './event/subject.ts';
export { openAuditLog } from './open.ts';
export { type AuditKey, openAuditKey, readAuditKey, signerOf } from './seal/audit-key.ts';
export {
  addSigner,
  createAuditRoot,
  loadTrust,
  revokeSigner,
  type TrustedSigner,
  type TrustFile,
} from './seal/trust.ts';
export { ensureReaderRole, ensureVerifierRole, ensureWriterRole } from './store/login-role.ts';
export { migrate, type MigrateOptions, type MigrationResult, roleSql } from './store/migrate.ts';
export { followEvents, type FollowOptions } from './query/follow.ts';
export { NAMED_QUERIES, type NamedQuery, type QueryParameter } from './query/named-query.ts';
export { AuditReader, queryAudit, type QueryResult, type Row } from './query/reader.ts';
export {
  type RecordedDecision,
  type RecordedPage,
  type RecordedRange,
  recordedDecisions,
} from './query/recorded-decisions.ts';
export { findNamedQuery, runNamedQuery } from './query/run-named.ts';
export { showStream, type StreamStory } from './query/show-stream.ts';
export { headFileOf } from './spool/head-file.ts';
export type { ChangeRecord, ControlChanges, OutboxChange, StandingFact } from './verify/change-check.ts';
export type { Finding, FindingKind, VerifyReport } from './verify/report.ts';
export { verifyAudit, type VerifyOptions } from './verify/verify.ts';
