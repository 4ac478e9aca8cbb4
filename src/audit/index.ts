export type {
  AuditHealth,
  AuditLog,
  AuditLogOptions,
  FileHooks,
  OutageMode,
  Recorded,
} from './audit-log.ts';
export { type AuthFailure, AuthFailures, COALESCE_MS } from './auth-failures.ts';
export { checkpointMetrics } from './checkpoint/metrics.ts';
export { checkpointSettings, checkpointsOf } from './checkpoint/settings.ts';
export { type AuditErrorCode, auditError } from './errors.ts';
export type { AuditEventInput, Origin } from './event/event.ts';
export { type EventData, eventDataSchemas } from './event/event-data.ts';
export { EVENT_TYPES, type EventClass, type EventType, isEventType } from './event/event-type.ts';
export { type Subject, subjectSchema } from './event/subject.ts';
export { openAuditLog } from './open.ts';
export type { PolicyArtifact } from './policy-store/artifact.ts';
export { PolicyStore } from './policy-store/policy-store.ts';
export { type AuditKey, openAuditKey, readAuditPublicKey, signerOf } from './seal/audit-key.ts';
export {
  addSigner,
  createAuditRoot,
  loadTrust,
  revokeSigner,
  type TrustedSigner,
  type TrustFile,
  EXPORTER_KIND,
} from './seal/trust.ts';
export {
  detachRetained,
  partitionsAhead,
  type Removable,
  oldestDay,
  removableBefore,
  requireOperatorKey,
  removeCheckpoints,
  requestRetention,
  retentionRecorded,
} from './retention/retain.ts';
export {
  ensureImporterRole,
  ensureReaderRole,
  ensureRetentionRole,
  ensureVerifierRole,
  ensureWriterRole,
} from './store/login-role.ts';
export {
  type DatabaseInspection,
  hearsNotifications,
  inspectDatabase,
} from './store/inspect-database.ts';
export { migrate, type MigrateOptions, type MigrationResult, roleSql } from './store/migrate.ts';
export {
  asRecorded,
  type DecisionEvent,
  findDecisions,
  readKeptContent,
} from './query/decision-source.ts';
export { followEvents, type FollowOptions } from './query/follow.ts';
export { findNamedQuery, NAMED_QUERIES } from './query/named-queries.ts';
export type { NamedQuery, QueryParameter } from './query/named-query.ts';
export { type GivenValues, standaloneSql } from './query/query-values.ts';
export { AuditReader, queryAudit, type QueryResult, type Row } from './query/reader.ts';
export {
  type RecordedDecision,
  type RecordedPage,
  type RecordedRange,
  recordedDecisions,
} from './query/recorded-decisions.ts';
export { runNamedQuery } from './query/run-named.ts';
export { type HoursOfUse, hoursOfUse } from './query/hours-of-use.ts';
export { showStream, type StreamStory } from './query/show-stream.ts';
export { viewColumns } from './query/view-columns.ts';
export {
  checkProof,
  type InclusionProof,
  type ProofReport,
  readProof,
} from './proof/inclusion-proof.ts';
export { proveEvent } from './proof/prove-event.ts';
export type { SinkStatus } from './sink/messages.ts';
export { registerSinkMetrics } from './sink/sink-metrics.ts';
export { type SinkSettings, sinkFields, sinksOf } from './sink/sink-settings.ts';
export { headFileOf } from './spool/head-file.ts';
export type { ChangeRecord, ControlChanges, OutboxChange, StandingFact } from './verify/change-check.ts';
export type { Finding, FindingKind, VerifyReport } from './verify/report.ts';
export { type SiteTrust, verifyAudit, type VerifyOptions, type VerifyProgress } from './verify/verify.ts';
export { csvCell } from './export/csv.ts';
export {
  exportEvidence,
  exportLines,
  type ExportProgress,
  LINE_FORMAT_NAMES,
  type LineFormatName,
} from './export/export.ts';
export type { Manifest } from './export/manifest.ts';
export type { NoticeOptions } from './export/notice.ts';
export type { ExportInterval } from './export/snapshot.ts';
export { importEvidence, type ImportReport } from './import/import.ts';
