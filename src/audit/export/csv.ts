import { terminalText } from '../../runtime/index.ts';
import { projectionOf, readEnvelope } from '../event/projection.ts';
import type { ExportedEvent } from './snapshot.ts';

/** What a spreadsheet takes for the beginning of a formula, full-width forms included. */
const FORMULA = /^[=+\-@\uff1d\uff0b\uff0d\uff20]/;

/**
 * One cell of RFC 4180: control and direction-changing characters escaped as `\uXXXX`, text that a spreadsheet would
 * run as a formula behind an apostrophe. Numbers stay numbers; lists and objects are JSON.
 */
export const csvCell = (value: unknown): string => {
  if (value === null || value === undefined) return '';
  const text = terminalText(typeof value === 'string' ? value : JSON.stringify(value));
  const harmless = typeof value === 'string' && FORMULA.test(text) ? `'${text}` : text;
  return /[",]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
};

/** The columns of `audit.event` without the canonical bytes, in its order. New ones are added at the end. */
export const CSV_COLUMNS = [
  'recorded_at',
  'chain_id',
  'seq',
  'event_id',
  'occurred_at',
  'clock_skew_ms',
  'schema_version',
  'type',
  'class_uid',
  'activity_id',
  'action',
  'disposition',
  'severity',
  'origin',
  'namespace',
  'agent',
  'local_at',
  'agent_zone',
  'relay',
  'gateway',
  'connection',
  'connection_id',
  'principal',
  'auth_rule',
  'key_id',
  'key_slot',
  'key_kind',
  'identity_id',
  'proved_by',
  'listener_principal',
  'listener_key_id',
  'stream_id',
  'stream_no',
  'stream_kind',
  'attempt',
  'link_id',
  'carrier',
  'own_spki',
  'peer_spki',
  'login_id',
  'site',
  'client_addr',
  'client_port',
  'source_addr',
  'target_host',
  'target_addr',
  'target_port',
  'decided_by',
  'policy_rule',
  'policy_rules',
  'reasons',
  'close_reason',
  'bundle_revision',
  'bundle_sequence',
  'bundle_sha256',
  'managed_sha256',
  'shadow',
  'eval_us',
  'dial_ms',
  'bytes_up',
  'bytes_down',
  'duration_ms',
  'actor',
  'projection_error',
] as const;

/** The header line. */
export const CSV_HEADER = `${CSV_COLUMNS.join(',')}\r\n`;

/** The line of one event. */
export const csvLine = (event: ExportedEvent): string => {
  const envelope = readEnvelope(event.canonical);
  const bare = envelope === undefined || event.projectionError?.startsWith('sqlstate') === true;
  const row: Record<string, unknown> = {
    ...(bare ? {} : projectionOf(envelope)),
    recorded_at: event.recordedAt,
    chain_id: event.chain,
    seq: event.seq,
    clock_skew_ms: event.clockSkewMs,
    site: event.site,
    projection_error: event.projectionError,
  };
  return `${CSV_COLUMNS.map((name) => csvCell(row[name])).join(',')}\r\n`;
};
