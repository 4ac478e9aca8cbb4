/** A parameter of a named query: what it means, and what it is when not given. */
export interface QueryParameter {
  readonly name: string;
  readonly meaning: string;
  /** Text that Postgres casts to the parameter's type; without one it must be given. */
  readonly fallback?: string;
}

/** A question with its answer in SQL over the views; `$1 …` are the parameters in order. */
export interface NamedQuery {
  readonly name: string;
  readonly question: string;
  readonly parameters: readonly QueryParameter[];
  readonly sql: string;
}

const from = (fallback: string): QueryParameter => ({
  name: 'from',
  meaning: 'first instant, RFC 3339',
  fallback,
});
const to: QueryParameter = {
  name: 'to',
  meaning: 'first instant no longer meant, RFC 3339',
  fallback: 'infinity',
};

/** The questions that `audit query NAME` answers; each reads views only. */
export const NAMED_QUERIES: readonly NamedQuery[] = [
  {
    name: 'target-access',
    question: 'Who reached a target, when, under which rule?',
    parameters: [{ name: 'target', meaning: 'host name of the target' }, from('-infinity'), to],
    sql: `select opened_at, closed_at, principal, key_id, source_addr, connection, target_host, target_addr, target_port,
  policy_rule, bytes_up, bytes_down, close_reason, stream_id
from audit.streams
where target_host = $1 and opened_at >= $2::timestamptz and opened_at < $3::timestamptz
order by opened_at`,
  },
  {
    name: 'out-of-hours',
    question: 'Which streams were opened outside local office hours?',
    parameters: [
      from('-infinity'),
      to,
      { name: 'start', meaning: 'first office hour', fallback: '7' },
      { name: 'end', meaning: 'first hour after the office', fallback: '19' },
    ],
    sql: `select local_at, agent_zone, connection, principal, key_id, source_addr, target_host, policy_rule, stream_id
from audit.streams
where opened_at >= $1::timestamptz and opened_at < $2::timestamptz and local_at is not null
  and (extract(isodow from local_at) > 5
    or extract(hour from local_at) < $3::integer or extract(hour from local_at) >= $4::integer)
order by opened_at`,
  },
  {
    name: 'key-history',
    question: 'What did a key ever do, and from where?',
    parameters: [{ name: 'key', meaning: 'key id' }],
    sql: `select occurred_at, origin, type, action, source_addr, summary, stream_id, link_id
from audit.timeline where key_id = $1 order by occurred_at, chain_id, seq`,
  },
  {
    name: 'denials',
    question: 'Denials by reason, connection and principal',
    parameters: [from('yesterday'), to],
    sql: `select coalesce(reason, close_reason) as reason, connection, principal, decided_by, sum(decision_count) as denials,
  min(occurred_at) as first_at, max(occurred_at) as last_at
from audit.denies left join lateral unnest(reasons) as reason on true
where occurred_at >= $1::timestamptz and occurred_at < $2::timestamptz
group by 1, 2, 3, 4 order by denials desc, 1, 2, 3`,
  },
  {
    name: 'first-pairs',
    question: 'Which principals reached a target for the first time?',
    parameters: [from('yesterday'), to],
    sql: `select principal, target_host, target_port, min(opened_at) as first_at, count(*) as streams
from audit.streams group by principal, target_host, target_port
having min(opened_at) >= $1::timestamptz and min(opened_at) < $2::timestamptz
order by first_at`,
  },
  {
    name: 'revocation-cuts',
    question: 'Which streams were cut by a revocation, and how fast?',
    parameters: [from('-infinity'), to],
    sql: `select r.revoked_at, r.key_id, r.reason, r.actor, r.nodes, r.links, r.streams, r.slowest_ms,
  count(s.stream_id) as streams_recorded, max(s.closed_at) - r.revoked_at as last_stream_after
from audit.revocations as r
left join audit.streams as s on s.key_id = r.key_id and s.close_reason = 'key_revoked'
where r.revoked_at >= $1::timestamptz and r.revoked_at < $2::timestamptz
group by r.revoked_at, r.key_id, r.reason, r.actor, r.nodes, r.links, r.streams, r.slowest_ms
order by r.revoked_at`,
  },
  {
    name: 'key-changes',
    question: 'Who created, rotated, disclosed and revoked keys?',
    parameters: [from('-infinity'), to],
    sql: `select occurred_at, type, key_id, connection, actor, details #>> '{data,reason}' as reason, summary
from audit.timeline
where type in ('key.created', 'key.rotated', 'key.disclosed', 'key.revoked')
  and occurred_at >= $1::timestamptz and occurred_at < $2::timestamptz
order by occurred_at`,
  },
  {
    name: 'slot-usage',
    question: 'Which key slots of an authorization rule are still used, and by whom?',
    parameters: [],
    sql: `select connection, auth_rule, key_slot, key_id, principal, last_used_at, allowed, denied, sources
from audit.key_usage order by connection, auth_rule, key_slot, last_used_at desc`,
  },
  {
    name: 'bundle-at',
    question: 'Which policy bundle decided on an agent at an instant?',
    parameters: [
      { name: 'agent', meaning: 'name of the agent' },
      { name: 'at', meaning: 'instant, RFC 3339', fallback: 'now' },
    ],
    sql: `select agent, bundle_sequence, bundle_revision, bundle_sha256, occurred_at as last_decision_at
from audit.decisions
where agent = $1 and occurred_at <= $2::timestamptz and bundle_sha256 is not null
order by occurred_at desc limit 1`,
  },
  {
    name: 'top-talkers',
    question: 'Which principals moved the most bytes?',
    parameters: [from('-infinity'), to],
    sql: `select principal, connection, count(*) as streams, sum(bytes_up) as bytes_up, sum(bytes_down) as bytes_down,
  max(bytes_up) as largest_upload
from audit.streams where opened_at >= $1::timestamptz and opened_at < $2::timestamptz
group by principal, connection order by coalesce(sum(bytes_up), 0) + coalesce(sum(bytes_down), 0) desc`,
  },
  {
    name: 'auth-failures',
    question: 'Failed authentications by claimed key or token and address',
    parameters: [from('-infinity'), to],
    sql: `select details #>> '{data,claimed_key_name}' as claimed_key_name,
  details #>> '{data,claimed_token_id}' as claimed_token_id, details #>> '{data,code}' as code,
  coalesce(details #>> '{data,address}', host(source_addr)) as address, connection,
  sum(coalesce((details #>> '{data,count}')::bigint, 1)) as failures, max(occurred_at) as last_at
from audit.timeline
where type = 'auth.failed' and occurred_at >= $1::timestamptz and occurred_at < $2::timestamptz
group by 1, 2, 3, 4, 5 order by failures desc, last_at desc`,
  },
  {
    name: 'gaps',
    question: 'When was the trail late, dropped, broken or silent?',
    parameters: [],
    sql: `select origin, chain_id, state, last_recorded_at, lag_seconds, silent_seconds, dropped, fork_alarms, default_partition_rows,
  (select count(*) from audit.timeline as t
   where t.chain_id = h.chain_id and t.type in ('audit.gap', 'audit.chain_break')) as breaks
from audit.health as h order by last_recorded_at desc`,
  },
  {
    name: 'target-changes',
    question: 'Which connections, targets and managed settings changed?',
    parameters: [from('-infinity'), to],
    sql: `select occurred_at, type, connection, actor, details #> '{data,before}' as before, details #> '{data,after}' as after
from audit.timeline
where type in ('connection.created', 'connection.changed', 'connection.deleted', 'managed.changed', 'managed.refused')
  and occurred_at >= $1::timestamptz and occurred_at < $2::timestamptz
order by occurred_at`,
  },
  {
    name: 'open-now',
    question: 'What is open now, on whose authority?',
    parameters: [],
    sql: `select opened_at, connection, principal, key_id, source_addr, target_host, target_port, agent, gateway, policy_rule,
  certainty, stream_id
from audit.active_streams order by opened_at`,
  },
];
