import { z } from 'zod';
import { EVENT_TYPES, isEventType } from './event-type.ts';
import { fitField, SUBJECT_FIELDS } from './field.ts';

/** Column values as JSON: what `to_jsonb` says of a row. Absent columns are null. */
export type Projection = Readonly<Record<string, unknown>>;

type Members = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Members =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** As it is: what is projected is read, not kept. */
const members = z.custom<Members>(isObject);
const membersOf = (value: unknown): Members | undefined => (isObject(value) ? value : undefined);
const text = z.string().optional();

const envelopeSchema = z.object({
  v: z.int(),
  type: z.string(),
  id: z.uuid(),
  at: z.string(),
  chain: z.uuid(),
  local: text,
  origin: z.object({ kind: text, name: text, instance: text, namespace: text, version: text, zone: text }),
  subject: members,
  data: members,
  unfit: members.optional(),
});

/** Read envelope of canonical bytes. */
export type Envelope = z.output<typeof envelopeSchema>;

/** Reads canonical bytes; `undefined` when they are no event. */
export const readEnvelope = (canonical: Uint8Array): Envelope | undefined => {
  try {
    return envelopeSchema.safeParse(JSON.parse(Buffer.from(canonical).toString('utf8'))).data;
  } catch {
    return undefined;
  }
};

/** Types whose `data.reason` is a close reason. */
const CLOSE_REASON_TYPES = /^(stream|link|publish|login)\.|^unpublish$/;

const textsOf = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

const rulesOf = (value: unknown): string[] | undefined => {
  const rules = membersOf(value);
  return rules === undefined ? undefined : [...textsOf(rules.publish), ...textsOf(rules.stream)];
};

const reasonsOf = (value: unknown): (string | null)[] | undefined =>
  Array.isArray(value)
    ? value.map((item) => {
        const code = membersOf(item)?.code;
        return typeof code === 'string' ? code : null;
      })
    : undefined;

const SUBJECT_COLUMNS = Object.entries(SUBJECT_FIELDS);

/** The columns of `audit.event` that follow from canonical bytes, the same as `audit.store_events` derives. */
export const projectionOf = (envelope: Envelope): Projection => {
  const { type, origin, subject, data } = envelope;
  const known = isEventType(type) ? EVENT_TYPES[type] : undefined;
  const bundle = membersOf(data.bundle) ?? {};
  const verdict = data.allow === true ? 'allowed' : 'denied';
  const decided = typeof data.allow === 'boolean';
  const subjectColumns: Record<string, unknown> = {};
  for (const [name, kind] of SUBJECT_COLUMNS) subjectColumns[name] = fitField(kind, subject[name]);
  const unfit = Object.keys(envelope.unfit ?? {}).sort();
  // Not spread into the literal: an object of this many members that grows member by member is very slow.
  return Object.assign(subjectColumns, {
    event_id: envelope.id,
    occurred_at: envelope.at,
    schema_version: envelope.v,
    type,
    class_uid: known?.class_uid,
    activity_id: known?.activity_id,
    severity: known?.severity,
    action: decided ? verdict : known?.action,
    disposition: decided ? (data.allow === true ? 'allowed' : 'blocked') : known?.disposition,
    origin:
      origin.kind === undefined || origin.name === undefined ? undefined : `${origin.kind}/${origin.name}`,
    namespace: subject.namespace ?? origin.namespace,
    agent: subject.agent ?? (origin.kind === 'agent' ? origin.name : undefined),
    relay: subject.relay ?? (origin.kind === 'relay' ? origin.name : undefined),
    local_at: envelope.local,
    agent_zone: origin.zone,
    decided_by: data.decided_by,
    policy_rule: data.rule,
    policy_rules: rulesOf(data.rules),
    reasons: reasonsOf(data.reasons),
    close_reason: CLOSE_REASON_TYPES.test(type) ? data.reason : undefined,
    bundle_revision: bundle.revision,
    bundle_sequence: bundle.sequence,
    bundle_sha256: bundle.sha256,
    managed_sha256: data.managed_sha256,
    shadow: data.shadow,
    eval_us: data.eval_us,
    dial_ms: data.dial_ms,
    bytes_up: data.bytes_up,
    bytes_down: data.bytes_down,
    duration_ms: data.duration_ms,
    projection_error: envelope.unfit === undefined ? undefined : unfit.join(','),
  });
};
