import { type EventClass, EVENT_TYPES, isEventType } from '../event/event-type.ts';
import { type Envelope, readEnvelope } from '../event/projection.ts';
import { classMembers } from './ocsf-class.ts';
import type { ExportedEvent } from './snapshot.ts';

/** The version of OCSF that events are written in. */
export const OCSF_VERSION = '1.4.0';

/** Class 0, `base_event`: what a record is called that cannot be read as one of ours. */
const BASE_EVENT = { category_uid: 0, class_uid: 0, activity_id: 0, type_uid: 0, severity_id: 0 } as const;
const CATEGORY_SIZE = 1_000;
const TYPES_PER_CLASS = 100;
const MINUTE_MS = 60_000;
const STEP_MINUTES = 15;

/** OCSF numbers of the profile `security_control`. */
const ACTION_IDS: Readonly<Record<string, number>> = { allowed: 1, denied: 2, observed: 3, modified: 4 };
const DISPOSITION_IDS: Readonly<Record<string, number>> = { allowed: 1, blocked: 2, logged: 17, error: 27 };
const STATUS = { success: 1, failure: 2 } as const;

/** The writer's offset from UTC in minutes, from the two times of the event. */
const offsetOf = (envelope: Envelope): number | undefined => {
  if (envelope.local === undefined) return undefined;
  const minutes = (Date.parse(`${envelope.local}Z`) - Date.parse(envelope.at)) / MINUTE_MS;
  return Number.isFinite(minutes) ? Math.round(minutes / STEP_MINUTES) * STEP_MINUTES : undefined;
};

const metadataOf = (event: ExportedEvent, envelope: Envelope | undefined): object => ({
  version: OCSF_VERSION,
  product: { name: 'Sallyport', vendor_name: 'Sallyport', version: envelope?.origin.version },
  profiles: ['security_control'],
  uid: envelope?.id ?? `${event.chain}/${event.seq}`,
  event_code: envelope?.type,
  log_name: 'audit',
  log_provider: envelope === undefined ? undefined : `${envelope.origin.kind}/${envelope.origin.name}`,
  logged_time: Date.parse(event.recordedAt),
  original_time: envelope?.at,
  tenant_uid: envelope?.origin.namespace,
});

/** Everything that has no place of its own. The policy input is left to the decision log. */
const unmappedOf = (event: ExportedEvent, envelope: Envelope): object => {
  const data = Object.fromEntries(Object.entries(envelope.data).filter(([name]) => name !== 'input'));
  return {
    chain_id: event.chain,
    seq: event.seq,
    site: event.site ?? undefined,
    subject: envelope.subject,
    data,
    unfit: envelope.unfit,
  };
};

const reasonOf = (data: Readonly<Record<string, unknown>>): string | undefined => {
  if (typeof data['reason'] === 'string') return data['reason'];
  return typeof data['code'] === 'string' ? data['code'] : undefined;
};

/** What was done: the verdict of the event itself, else that of its type; as `audit.event` has it. */
const verdictOf = (known: EventClass, allow: unknown): Pick<EventClass, 'action' | 'disposition'> => {
  if (typeof allow !== 'boolean') return known;
  return allow ? { action: 'allowed', disposition: 'allowed' } : { action: 'denied', disposition: 'blocked' };
};

/**
 * What OCSF calls the end that a re-check puts to what was open: reset of a network connection, revocation of the
 * privilege to publish.
 */
const RECHECK_ENDS = { 'stream.decision': 3, 'publish.decision': 2 } as const;

/** The activity of the type; a denial at a re-check opens nothing, it ends what was open. */
const activityOf = (known: EventClass, { type, data }: Envelope): number => {
  if (data['recheck'] !== true || data['allow'] !== false) return known.activity_id;
  return type === 'stream.decision' || type === 'publish.decision' ? RECHECK_ENDS[type] : known.activity_id;
};

/** The OCSF event of a record, as one object. Total: what cannot be read is a base event that names its place. */
export const ocsfEvent = (event: ExportedEvent): Readonly<Record<string, unknown>> => {
  const envelope = readEnvelope(event.canonical);
  if (envelope === undefined || !isEventType(envelope.type)) {
    return {
      ...BASE_EVENT,
      time: Date.parse(envelope?.at ?? event.recordedAt),
      metadata: metadataOf(event, envelope),
      action_id: 0,
      disposition_id: 0,
      message: 'a record that is no event of this version',
      unmapped: { chain_id: event.chain, seq: event.seq },
    };
  }
  const known = EVENT_TYPES[envelope.type];
  const { action, disposition } = verdictOf(known, envelope.data['allow']);
  const failed = action === 'denied' || disposition === 'error';
  const reason = reasonOf(envelope.data);
  const activity = activityOf(known, envelope);
  return {
    category_uid: Math.floor(known.class_uid / CATEGORY_SIZE),
    class_uid: known.class_uid,
    activity_id: activity,
    ...(activity === 99 ? { activity_name: envelope.type } : {}),
    type_uid: known.class_uid * TYPES_PER_CLASS + activity,
    severity_id: known.severity,
    time: Date.parse(envelope.at),
    timezone_offset: offsetOf(envelope),
    metadata: metadataOf(event, envelope),
    status_id: failed ? STATUS.failure : STATUS.success,
    status_code: reason,
    action_id: ACTION_IDS[action],
    disposition_id: DISPOSITION_IDS[disposition],
    message: reason === undefined ? envelope.type : `${envelope.type}: ${reason}`,
    ...classMembers(known.class_uid, envelope),
    unmapped: unmappedOf(event, envelope),
  };
};

/** The OCSF event of a record, as a line of JSON. */
export const ocsfLine = (event: ExportedEvent): string => `${JSON.stringify(ocsfEvent(event))}\n`;
