import type { AuditReader } from './reader.ts';
import { pagesOf, type RecordedRange } from './recorded-decisions.ts';

/** Local hours of the agent (0 to 23) in which streams of one principal to one connection were open. */
export interface HoursOfUse {
  readonly connection: string;
  readonly principal: string;
  readonly hours: readonly number[];
}

/** Half an hour: some zones are shifted by half of one. A day has every hour, so no stream is followed for longer. */
const HOURS = `
select s.connection, s.principal, array_agg(distinct extract(hour from moment at time zone s.agent_zone)::int) as hours
from audit.streams as s
cross join lateral generate_series(
  s.opened_at, least(coalesce(s.closed_at, now()), s.opened_at + interval '1 day'), interval '30 minutes'
) as step
cross join lateral (values (step), (least(coalesce(s.closed_at, now()), s.opened_at + interval '1 day'))) as m(moment)
where s.site is null and s.recorded_at between $1 and $2 and s.opened_at >= $3 and s.opened_at < $4
  and s.connection is not null and s.principal is not null and s.agent_zone is not null
  and (s.closed_at is null or s.closed_at - s.opened_at >= interval '30 minutes'
    or date_trunc('hour', s.opened_at) <> date_trunc('hour', s.closed_at))
group by s.connection, s.principal`;

/**
 * The hours that streams of this site lasted into, of those that outlasted the hour they were opened in; one without an end counts
 * until now. A policy with hours ends a stream when its hour is over, so that the hours of its opening do not tell.
 * @throws AppError ERR_AUDIT_QUERY_FAILED
 */
export async function* hoursOfUse(
  reader: AuditReader,
  range: RecordedRange,
): AsyncGenerator<HoursOfUse, void, undefined> {
  for (const { first, last } of await pagesOf(reader, range)) {
    const { rows } = await reader.query(HOURS, [first, last, range.from, range.to]);
    for (const row of rows) {
      yield {
        connection: String(row['connection']),
        principal: String(row['principal']),
        hours: row['hours'] as number[],
      };
    }
  }
}
