import { from, IN_SPAN, type NamedQuery, span, to } from '../named-query.ts';

/** Who reached what. */
export const ACCESS_QUESTIONS: readonly NamedQuery[] = [
  {
    name: 'target-access',
    question: 'Who reached a target, when, under which rule?',
    parameters: [{ name: 'target', type: 'text', meaning: 'host name of the target' }, from('-infinity'), to],
    sql: `${span(2, 3)}
select opened_at, closed_at, principal, key_id, source_addr, connection, target_host, target_addr, target_port,
  policy_rule, bytes_up, bytes_down, close_reason, stream_id, site
from audit.streams
where target_host = $1 and opened_at >= $2::timestamptz and opened_at < $3::timestamptz
  and ${IN_SPAN}
order by opened_at, stream_id`,
  },
  {
    name: 'out-of-hours',
    question: 'Which streams were opened outside local office hours?',
    parameters: [
      from('90d'),
      to,
      { name: 'start', type: 'integer', meaning: 'first office hour', fallback: '7' },
      { name: 'end', type: 'integer', meaning: 'first hour after the office', fallback: '19' },
    ],
    sql: `${span(1, 2)}
select local_at, agent_zone, connection, principal, key_id, source_addr, target_host, policy_rule, stream_id, site
from audit.streams
where opened_at >= $1::timestamptz and opened_at < $2::timestamptz
  and ${IN_SPAN}
  and (extract(isodow from local_at) > 5
    or extract(hour from local_at) < $3::integer or extract(hour from local_at) >= $4::integer)
order by opened_at, stream_id`,
  },
  {
    name: 'first-pairs',
    question: 'Which principals reached a target for the first time ever?',
    parameters: [from('7d'), to],
    sql: `select principal, target_host, target_port, first_at, last_at, streams, site
from audit.first_seen
where first_at >= $1::timestamptz and first_at < $2::timestamptz
order by first_at, principal, target_host, target_port, site`,
  },
  {
    name: 'top-talkers',
    question: 'Which principals moved the most bytes, and which uploads are unusual for them?',
    parameters: [
      from('7d'),
      to,
      { name: 'factor', type: 'integer', meaning: 'unusual: so many times the median', fallback: '10' },
    ],
    sql: `${span(1, 2)}, ended as (
  select principal, connection, bytes_up, bytes_down, site
  from audit.streams
  where opened_at >= $1::timestamptz and opened_at < $2::timestamptz
    and ${IN_SPAN}
), talked as (
  select principal, connection, site, count(*) as streams, sum(bytes_up)::bigint as bytes_up,
    sum(bytes_down)::bigint as bytes_down, percentile_cont(0.5) within group (order by bytes_up) as median_up,
    array_agg(bytes_up) as uploads
  from ended group by principal, connection, site
)
select principal, connection, streams, bytes_up, bytes_down, median_up::bigint as median_upload,
  (select max(upload) from unnest(uploads) as upload) as largest_upload,
  (select count(*) from unnest(uploads) as upload where upload > greatest(median_up * $3::integer, 1048576))
    as unusual_uploads,
  site
from talked
order by coalesce(bytes_up, 0) + coalesce(bytes_down, 0) desc, principal, connection, site`,
  },
  {
    name: 'open-now',
    question: 'What is open now, on whose authority, until when?',
    parameters: [],
    sql: `select opened_at, connection, principal, key_id, source_addr, target_host, target_port, agent, gateway, policy_rule,
  allowed_until, certainty, stream_id, site
from audit.active_streams
order by opened_at, stream_id`,
  },
];
