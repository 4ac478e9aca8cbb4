/**
 * OCSF class and activity, and severity, of one event type. Class numbers are those of OCSF 1.4:
 * 3001 account change, 3002 authentication, 3005 user access, 4001 network activity, 5019 device config
 * state change, 6002 application lifecycle, 6003 API activity. `99` is OCSF's "other".
 */
export interface EventClass {
  readonly class_uid: number;
  readonly activity_id: number;
  /** OCSF severity: 1 informational, 2 low, 3 medium, 4 high, 5 critical. */
  readonly severity: number;
  /** What was done, when the event holds no verdict of its own. */
  readonly action: 'allowed' | 'denied' | 'modified' | 'observed';
  readonly disposition: 'allowed' | 'blocked' | 'error' | 'logged';
}

const as =
  (action: EventClass['action'], disposition: EventClass['disposition']) =>
  (class_uid: number, activity_id: number, severity = 1): EventClass => ({
    class_uid,
    activity_id,
    severity,
    action,
    disposition,
  });
const seen = as('observed', 'logged');
const changed = as('modified', 'logged');
const refused = as('denied', 'blocked');
const failed = as('observed', 'error');

/** The closed union of event types; the table `audit.event_type` holds the same rows. */
export const EVENT_TYPES = {
  'agent.started': seen(6002, 3),
  'agent.stopped': seen(6002, 4),
  'agent.clock_step': seen(6002, 99, 3),
  'link.opened': seen(4001, 1),
  'link.closed': seen(4001, 2),
  'link.refused': refused(4001, 5, 2),
  'publish.decision': seen(3005, 1),
  unpublish: seen(3005, 2),
  'stream.decision': seen(4001, 1),
  'stream.close': seen(4001, 2),
  'stream.refused': refused(4001, 5, 2),
  'stream.resumed': seen(4001, 99),
  'auth.failed': refused(3002, 1, 3),
  'login.opened': seen(3002, 1),
  'login.renewed': seen(3002, 99),
  'login.closed': seen(3002, 2),
  'key.created': changed(3001, 1),
  'key.rotated': changed(3001, 99, 2),
  'key.disclosed': seen(3001, 99, 3),
  'key.revoked': changed(3001, 5, 3),
  'revocation.enforced': changed(3001, 5, 2),
  'auth_rule.changed': changed(3005, 99, 2),
  'connection.created': changed(6003, 1),
  'connection.changed': changed(6003, 3, 2),
  'connection.deleted': changed(6003, 4, 2),
  'enrolment.created': changed(3001, 1),
  'enrolment.used': changed(3001, 2, 2),
  'enrolment.refused': refused(3001, 99, 3),
  'identity.revoked': changed(3001, 5, 3),
  'bundle.activated': changed(5019, 1, 2),
  'bundle.held': seen(5019, 99, 3),
  'bundle.rejected': refused(5019, 99, 4),
  'policy.shadow': seen(3005, 99),
  'policy.error': failed(3005, 99, 4),
  'managed.changed': changed(5019, 1, 3),
  'managed.refused': refused(5019, 99, 4),
  'audit.gap': failed(6002, 99, 4),
  'audit.chain_break': failed(6002, 99, 3),
  'audit.heartbeat': seen(6002, 99),
  'audit.retained': changed(6003, 4, 3),
  'audit.exported': seen(6003, 2, 2),
  'signer.added': changed(3001, 1, 3),
  'signer.rotated': changed(3001, 99, 3),
  'admin.action': changed(6003, 99, 2),
} as const satisfies Record<string, EventClass>;

export type EventType = keyof typeof EVENT_TYPES;

/** True for a type of the union. */
export const isEventType = (text: string): text is EventType => Object.hasOwn(EVENT_TYPES, text);
