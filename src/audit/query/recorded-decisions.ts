import type { EventData } from '../event/event-data.ts';
import type { AuditReader } from './reader.ts';

/** Events of any type in one page: what is in memory at a time, at 2 to 8 KiB each. */
const PAGE_EVENTS = 4_000;

/** One decision as the agent recorded it. */
export interface RecordedDecision {
  readonly eventId: string;
  /** RFC 3339 instant of the decision. */
  readonly at: string;
  readonly action: 'publish' | 'stream';
  /** Empty when the event names none. */
  readonly connection: string;
  readonly data: EventData['stream.decision'];
}

export interface RecordedPage {
  readonly decisions: readonly RecordedDecision[];
  /** Events of any type in this page and in all. */
  readonly events: number;
  readonly totalEvents: number;
}

export interface RecordedRange {
  /** Included, and not included; RFC 3339 or any timestamp that Postgres reads. */
  readonly from: string;
  readonly to: string;
}

interface CanonicalDecision {
  readonly type: string;
  readonly subject?: { readonly connection?: string };
  readonly data: EventData['stream.decision'];
}

/** The canonical bytes as the text that they are: as bytea they would come in hex, twice as long and to be decoded twice. */
const EVENTS = `select event_id, occurred_at, convert_from(canonical, 'UTF8') as canonical
from audit.decision_events($1, $2, $3, $4)`;

const decisionOf = (row: Readonly<Record<string, unknown>>): RecordedDecision => {
  const { type, subject, data } = JSON.parse(String(row['canonical'])) as CanonicalDecision;
  return {
    eventId: String(row['event_id']),
    at: String(row['occurred_at']),
    action: type === 'publish.decision' ? 'publish' : 'stream',
    connection: subject?.connection ?? '',
    data,
  };
};

/** A part of what was recorded; both moments are included. */
interface PageRange {
  readonly first: string;
  readonly last: string;
  readonly events: number;
}

/** What was recorded of a time, in parts of about `PAGE_EVENTS`. @throws AppError ERR_AUDIT_QUERY_FAILED */
export const pagesOf = async (reader: AuditReader, { from, to }: RecordedRange): Promise<PageRange[]> => {
  // As text: a Date has no microseconds, and the last moment of a page would be cut off.
  const sql = `select first_recorded::text, last_recorded::text, event_count from audit.decision_pages($1, $2, $3)`;
  const { rows } = await reader.query(sql, [from, to, PAGE_EVENTS]);
  return rows.map((row) => ({
    first: String(row['first_recorded']),
    last: String(row['last_recorded']),
    events: Number(row['event_count']),
  }));
};

/**
 * Every recorded decision of this site of a time, page by page in the order of recording. The next page is fetched while one is
 * worked on.
 * @throws AppError ERR_AUDIT_QUERY_FAILED
 */
export async function* recordedDecisions(
  reader: AuditReader,
  { from, to }: RecordedRange,
): AsyncGenerator<RecordedPage, void, undefined> {
  const pages = await pagesOf(reader, { from, to });
  const totalEvents = pages.reduce((sum, page) => sum + page.events, 0);
  const fetch = async (index: number): Promise<RecordedPage | undefined> => {
    const page = pages[index];
    if (page === undefined) return undefined;
    const { rows } = await reader.query(EVENTS, [page.first, page.last, from, to]);
    return { decisions: rows.map(decisionOf), events: page.events, totalEvents };
  };
  let next = fetch(0);
  for (let index = 0; ; index += 1) {
    const page = await next;
    if (page === undefined) return;
    next = fetch(index + 1);
    // The caller may leave the loop before it is awaited.
    next.catch(() => undefined);
    yield page;
  }
}
