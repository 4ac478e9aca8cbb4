import type { EventData } from './event-data.ts';
import type { EventType } from './event-type.ts';
import type { Subject } from './subject.ts';

/** The process that writes a chain. Enters every event of it. */
export interface Origin {
  readonly kind: 'agent' | 'relay';
  readonly name: string;
  readonly instance: string;
  readonly namespace: string;
  readonly version: string;
  /** IANA time zone of the place, e.g. `Europe/Berlin`; gives `local_at` and `agent_zone`. */
  readonly zone?: string;
}

interface EventOf<T extends EventType> {
  readonly type: T;
  /** Id that the event has already (a UUID, version 7): recorded twice, it is the same event. Default: a new one. */
  readonly id?: string | undefined;
  /** Wall clock of the happening, ms since the epoch; default: when it is recorded. */
  readonly at_ms?: number | undefined;
  readonly subject: Subject;
  readonly data: EventData[T];
}

/** What an emitter hands over: one member of the union per event type. */
export type AuditEventInput = { [T in EventType]: EventOf<T> }[EventType];
