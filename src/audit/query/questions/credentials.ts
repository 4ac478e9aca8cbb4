import { from, IN_SPAN, type NamedQuery, span, to } from '../named-query.ts';

/** What was done with keys, and to them. */
export const CREDENTIAL_QUESTIONS: readonly NamedQuery[] = [
  {
    name: 'key-history',
    question: 'What did a key ever do, and from where?',
    parameters: [{ name: 'key', type: 'text', meaning: 'key id' }, from('-infinity'), to],
    sql: `${span(2, 3)}
select occurred_at, origin, type, action, source_addr, summary, stream_id, link_id, site
from audit.timeline
where key_id = $1 and occurred_at >= $2::timestamptz and occurred_at < $3::timestamptz
  and ${IN_SPAN}
order by occurred_at, chain_id, seq`,
  },
  {
    name: 'key-changes',
    question: 'Who created, rotated, disclosed and revoked keys?',
    parameters: [from('-infinity'), to],
    sql: `${span(1, 2)}
select occurred_at, type, key_id, connection, auth_rule, key_slot, actor, reason, before, after, site
from audit.admin_changes
where type in ('key.created', 'key.rotated', 'key.disclosed', 'key.revoked')
  and occurred_at >= $1::timestamptz and occurred_at < $2::timestamptz
  and ${IN_SPAN}
order by occurred_at, chain_id, seq`,
  },
  {
    name: 'slot-usage',
    question: 'Which key slots of an authorization rule are still used, and by whom?',
    parameters: [from('30d'), to],
    sql: `${span(1, 2)}
select connection, auth_rule, key_slot, key_id, principal, max(occurred_at) as last_used_at,
  coalesce(sum(decision_count) filter (where action = 'allowed'), 0)::bigint as allowed,
  coalesce(sum(decision_count) filter (where action = 'denied' and not recheck), 0)::bigint as denied,
  coalesce(sum(decision_count) filter (where action = 'denied' and recheck), 0)::bigint as cut,
  array_agg(distinct host(source_addr)) filter (where source_addr is not null) as sources, site
from audit.decisions
where kind = 'stream' and key_id is not null
  and occurred_at >= $1::timestamptz and occurred_at < $2::timestamptz
  and ${IN_SPAN}
group by connection, auth_rule, key_slot, key_id, principal, site
order by connection, auth_rule, key_slot, last_used_at desc, site`,
  },
  {
    name: 'revocation-cuts',
    question: 'Which streams were cut by a revocation, and how fast?',
    parameters: [from('-infinity'), to],
    sql: `select r.revoked_at, r.key_id, r.reason, r.actor, r.nodes, r.links::bigint, r.streams::bigint, r.slowest_ms,
  count(s.stream_id) as streams_recorded,
  round(extract(epoch from max(s.closed_at) - r.revoked_at) * 1000)::integer as last_stream_ms,
  r.site
from audit.revocations as r
left join audit.streams as s on s.key_id = r.key_id and s.close_reason = 'key_revoked' and s.closed_at >= r.revoked_at
  and s.site is not distinct from r.site
where r.revoked_at >= $1::timestamptz and r.revoked_at < $2::timestamptz
group by r.revocation_id, r.event_id, r.revoked_at, r.key_id, r.reason, r.actor, r.nodes, r.links, r.streams, r.slowest_ms,
  r.site
order by r.revoked_at, r.key_id, r.site`,
  },
  {
    name: 'auth-failures',
    question: 'Failed authentications by claimed key or token and address',
    parameters: [from('7d'), to],
    sql: `${span(1, 2)}
select details #>> '{data,claimed_key_name}' as claimed_key_name,
  details #>> '{data,claimed_token_id}' as claimed_token_id, details #>> '{data,code}' as code,
  coalesce(details #>> '{data,address}', host(source_addr)) as address, connection,
  sum(coalesce((details #>> '{data,count}')::bigint, 1))::bigint as failures, max(occurred_at) as last_at,
  site
from audit.timeline
where type = 'auth.failed' and occurred_at >= $1::timestamptz and occurred_at < $2::timestamptz
  and ${IN_SPAN}
group by 1, 2, 3, 4, 5, site
order by failures desc, last_at desc`,
  },
];
