import { EVENT_TYPES, type EventClass, isEventType } from '../event/event-type.ts';
import { type Envelope, projectionOf, readEnvelope } from '../event/projection.ts';
import type { SinkEvent } from './backlog.ts';

/** What receivers may search by, beside the event itself; the names are those of the columns of `audit.event`. */
const FACTS = [
  'action',
  'disposition',
  'connection',
  'principal',
  'key_id',
  'stream_id',
  'link_id',
  'gateway',
  'source_addr',
  'target_host',
  'target_addr',
  'target_port',
  'decided_by',
  'policy_rule',
  'close_reason',
  'actor',
] as const;

/** The lowest severity: of what cannot be read as an event. */
const INFORMATIONAL = 1;

/** What is said of one event, whatever the protocol. */
export interface EventFacts {
  readonly envelope: Envelope | undefined;
  readonly type: string;
  readonly known: EventClass | undefined;
  /** OCSF severity, 1 to 5. */
  readonly severity: number;
  /** RFC 3339, UTC. */
  readonly at: string | undefined;
  /** Of the reasons, the first: why something was denied or ended. */
  readonly reason: string | undefined;
  /** Those that the event has, in a fixed order. */
  readonly fields: ReadonlyMap<string, string | number>;
}

const reasonOf = ({ data }: Envelope): string | undefined => {
  const code = data['reason'] ?? data['code'];
  return typeof code === 'string' ? code : undefined;
};

/** Reads an event for its receivers. Total: what cannot be read has no fields. */
export const factsOf = (event: SinkEvent): EventFacts => {
  const envelope = readEnvelope(event.canonical);
  const fields = new Map<string, string | number>();
  if (envelope !== undefined) {
    const row = projectionOf(envelope);
    for (const name of FACTS) {
      const value = row[name];
      if ((typeof value === 'string' && value !== '') || typeof value === 'number') fields.set(name, value);
    }
  }
  const type = envelope?.type ?? 'unknown';
  const known = isEventType(type) ? EVENT_TYPES[type] : undefined;
  return {
    envelope,
    type,
    known,
    severity: known?.severity ?? INFORMATIONAL,
    at: envelope?.at,
    reason: envelope === undefined ? undefined : reasonOf(envelope),
    fields,
  };
};
