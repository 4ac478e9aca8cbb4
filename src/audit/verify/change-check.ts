import type pg from 'pg';
import type { AuditEventInput } from '../event/event.ts';
import { canonicalJson } from '../event/canonical.ts';
import { eventText } from '../event/envelope.ts';
import { eventIdOf } from '../pending-event.ts';
import type { Findings } from './report.ts';

/**
 * A change gets this long, seconds, from its commit to its event in the audit database before it counts as lost: a
 * relay hands over within 2 s, seals within 0.25 s, and sends again while the database is away.
 */
export const CHANGE_LAG_S = 60;
const READ_EVENTS = 2_000;

/** A change as the outbox of the control database holds it. */
export interface OutboxChange {
  /** The event that it was to become, with its id. */
  readonly event: AuditEventInput & { readonly id: string };
  /** Since its commit, seconds. */
  readonly ageS: number;
  /** Since it was handed over, seconds; undefined: it never was. */
  readonly handedAgeS: number | undefined;
}

/** Something that stands in the control database and that some event must have told of. */
export interface StandingFact {
  /** For people, e.g. `connection orders`. */
  readonly what: string;
  /** As `factsOf` names it. */
  readonly fact: string;
  readonly ageS: number;
}

/** A control database as `verify` compares it. */
export interface ControlChanges {
  readonly outbox: readonly OutboxChange[];
  readonly standing: readonly StandingFact[];
  /** The types of event that changes become. */
  readonly types: readonly string[];
  /** What an event tells of. */
  readonly factsOf: (event: ChangeRecord) => readonly string[];
}

/** The members of a canonical event that a change determines. */
export interface ChangeRecord {
  readonly type: string;
  readonly subject: Readonly<Record<string, unknown>>;
  readonly data: Readonly<Record<string, unknown>>;
}

interface ReadEvent extends ChangeRecord {
  readonly id: string;
  readonly at: string;
}

/** What must be the same in every event of one change: all but chain and writer. */
const contentOf = ({ id, at, type, subject, data }: ReadEvent): string =>
  canonicalJson({ id, at, type, subject, data });

const read = (canonical: string): ReadEvent | undefined => {
  try {
    const event = JSON.parse(canonical) as Partial<ReadEvent>;
    const { id, at, type, subject, data } = event;
    const whole = typeof id === 'string' && typeof at === 'string' && typeof type === 'string';
    return whole ? { id, at, type, subject: subject ?? {}, data: data ?? {} } : undefined;
  } catch {
    // Not an event at all: the chain's own check names it.
    return undefined;
  }
};

/** The content that the event of a change must have, made as an audit log would make it. */
const expectedOf = ({ event }: OutboxChange): string => {
  const made = read(eventText(event, event.id, event.at_ms ?? 0, { chain: '', origin: '{}' }));
  return made === undefined ? '' : contentOf(made);
};

interface Recorded {
  /** Distinct contents under each id, with how many events say so. */
  readonly contents: Map<string, string[]>;
  readonly facts: Set<string>;
}

const recordedChanges = async (client: pg.ClientBase, changes: ControlChanges): Promise<Recorded> => {
  const contents = new Map<string, string[]>();
  const facts = new Set<string>();
  // A cursor: the events of years do not fit into memory at once.
  await client.query({
    text: `declare changes no scroll cursor for
      select e.canonical from audit.event as e
      where e.type = any($1::text[]) or e.type is null`,
    values: [changes.types],
  });
  for (;;) {
    const { rows } = await client.query<{ canonical: Buffer }>(`fetch ${READ_EVENTS} from changes`);
    for (const row of rows) {
      const event = read(row.canonical.toString('utf8'));
      if (event === undefined || !changes.types.includes(event.type)) continue;
      const known = contents.get(event.id);
      if (known === undefined) contents.set(event.id, [contentOf(event)]);
      else known.push(contentOf(event));
      for (const fact of changes.factsOf(event)) facts.add(fact);
    }
    if (rows.length < READ_EVENTS) break;
  }
  await client.query('close changes');
  return { contents, facts };
};

/** What the comparison counted besides its findings. */
export interface ChangeTotals {
  /** Rows of the outbox and standing things compared. */
  readonly changes: number;
  /** Too young to be missed. */
  readonly waiting: number;
  /** Changes with more than one event, all saying the same. */
  readonly repeated: number;
  /** Standing things whose event retention may have removed. */
  readonly beyondRetention: number;
}

const checkOutbox = (
  outbox: readonly OutboxChange[],
  contents: Recorded['contents'],
  findings: Findings,
): { waiting: number; repeated: number } => {
  let waiting = 0;
  let repeated = 0;
  for (const change of outbox) {
    const { event, ageS, handedAgeS } = change;
    const found = contents.get(eventIdOf(event) ?? '');
    const what = `change ${event.id} (${event.type})`;
    if (found !== undefined) {
      const expected = expectedOf(change);
      if (found.length > 1) repeated += 1;
      if (found.some((content) => content !== expected))
        findings.add('change_differs', `${what}: its event and the outbox say different things`);
    } else if ((handedAgeS ?? ageS) < CHANGE_LAG_S) {
      waiting += 1;
    } else if (handedAgeS === undefined) {
      findings.add('change_waiting', `${what} was made ${Math.floor(ageS)} s ago and never handed over`);
    } else {
      const since = `${Math.floor(handedAgeS)} s ago`;
      findings.add('change_missing', `${what} was handed over ${since} and has no audit event`);
    }
  }
  return { waiting, repeated };
};

/**
 * Names every change of a control database that has no event. `client` is in the snapshot of the verification;
 * retention that holds may have removed events from before `removedBeforeMs`.
 */
export const checkChanges = async (
  client: pg.ClientBase,
  changes: ControlChanges,
  removedBeforeMs: number | undefined,
  findings: Findings,
): Promise<ChangeTotals> => {
  const { contents, facts } = await recordedChanges(client, changes);
  const { rows } = await client.query<{ age: number | null }>(
    'select extract(epoch from now() - to_timestamp($1))::double precision as age',
    [removedBeforeMs === undefined ? null : removedBeforeMs / 1000],
  );
  const removedAgeS = rows[0]?.age ?? Number.POSITIVE_INFINITY;
  const { waiting: waitingRows, repeated } = checkOutbox(changes.outbox, contents, findings);
  let waiting = waitingRows;
  let beyondRetention = 0;
  for (const { what, fact, ageS } of changes.standing) {
    if (facts.has(fact)) continue;
    if (ageS < CHANGE_LAG_S) waiting += 1;
    else if (ageS >= removedAgeS) beyondRetention += 1;
    else
      findings.add('change_missing', `${what} stands in the control database and no audit event tells of it`);
  }
  return { changes: changes.outbox.length + changes.standing.length, waiting, repeated, beyondRetention };
};
