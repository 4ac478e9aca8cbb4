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

const decisionOf = (row: Readonly<Record<string, unknown>>): RecordedDecision => {
  const bytes = Buffer.from(String(row['canonical']), 'hex');
  const { type, subject, data } = JSON.parse(bytes.toString('utf8')) as CanonicalDecision;
  return {
    eventId: String(row['event_id']),
    at: String(row['occurred_at']),
    action: type === 'publish.decision' ? 'publish' : 'stream',
    connection: subject?.connection ?? '',
    data,
  };
};

/**
 * Every recorded decision of a time, page by page in the order of recording. The next page is fetched while one is
 * worked on.
 * @throws AppError ERR_AUDIT_QUERY_FAILED
 */
export async function* recordedDecisions(
  reader: AuditReader,
  { from, to }: RecordedRange,
): AsyncGenerator<RecordedPage, void, undefined> {
  // As text: a Date has no microseconds, and the last moment of a page would be cut off.
  const sql = `select first_recorded::text, last_recorded::text, event_count from audit.decision_pages($1, $2, $3)`;
  const pages = (await reader.query(sql, [from, to, PAGE_EVENTS])).rows;
  const totalEvents = pages.reduce((sum, page) => sum + Number(page['event_count']), 0);
  const fetch = async (index: number): Promise<RecordedPage | undefined> => {
    const page = pages[index];
    if (page === undefined) return undefined;
    const { rows } = await reader.query('select * from audit.decision_events($1, $2, $3, $4)', [
      page['first_recorded'],
      page['last_recorded'],
      from,
      to,
    ]);
    return { decisions: rows.map(decisionOf), events: Number(page['event_count']), totalEvents };
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
