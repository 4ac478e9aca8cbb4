import { CLOSE_REASON } from '../runtime/index.ts';
import type { Recorded } from './audit-log.ts';
import { type EnvelopeContext, eventText } from './event/envelope.ts';
import type { AuditEventInput } from './event/event.ts';
import type { EventType } from './event/event-type.ts';
import { fitField } from './event/field.ts';
import { EVENT_CLASS, type LostStream, type SpoolItem } from './spool/messages.ts';
import { accountOf } from './spool/principal-shares.ts';

/** Events that `best_effort` may drop beyond the quota. */
const CLOSE_TYPES: ReadonlySet<EventType> = new Set<EventType>([
  'stream.close',
  'link.closed',
  'login.closed',
]);
const DECISION_TYPES: ReadonlySet<EventType> = new Set<EventType>(['stream.decision', 'publish.decision']);

/** An event on its way to the disk, with whoever waits for it. */
export interface PendingEvent {
  readonly input: AuditEventInput;
  readonly id: string;
  readonly recordedMs: number;
  readonly item: SpoolItem;
  readonly resolve: (recorded: Recorded) => void;
  readonly reject: (error: Error) => void;
}

const classOf = (type: EventType): number => {
  if (DECISION_TYPES.has(type)) return EVENT_CLASS.decision;
  if (type.startsWith('audit.')) return EVENT_CLASS.vital;
  return CLOSE_TYPES.has(type) ? EVENT_CLASS.close : EVENT_CLASS.other;
};

const streamIdOf = (input: AuditEventInput): string | undefined => {
  const id = fitField('uuid', input.subject.stream_id);
  return typeof id === 'string' ? id : undefined;
};

const principalOf = ({ subject }: AuditEventInput): string | undefined => {
  const principal = fitField('text', subject.principal);
  if (typeof principal !== 'string') return undefined;
  const connection = fitField('text', subject.connection);
  return accountOf(principal, typeof connection === 'string' ? connection : undefined);
};

/** The id that an emitter gave, when it is one. */
export const eventIdOf = (input: AuditEventInput): string | undefined => {
  const id = fitField('uuid', input.id);
  return typeof id === 'string' ? id : undefined;
};

/** The event as the spool takes it. */
export const spoolItem = (
  input: AuditEventInput,
  id: string,
  recordedMs: number,
  context: EnvelopeContext,
): SpoolItem => {
  const text = eventText(input, id, recordedMs, context);
  const item = { text, class: classOf(input.type), principal: principalOf(input) };
  if (input.type === 'stream.decision') {
    return { ...item, opens: (input.data.allow as unknown) === true ? streamIdOf(input) : undefined };
  }
  if (input.type === 'stream.close' || input.type === 'stream.refused') {
    return { ...item, closes: streamIdOf(input) };
  }
  return item;
};

/** The end of a stream whose agent went away without recording it. */
export const lostStreamEvent = (lost: LostStream): AuditEventInput => ({
  type: 'stream.close',
  subject: JSON.parse(lost.subject) as AuditEventInput['subject'],
  data: { reason: 'agent_lost', reason_number: CLOSE_REASON.agent_lost, decision_id: lost.decision_id },
});
