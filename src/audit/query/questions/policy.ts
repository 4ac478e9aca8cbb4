import { from, IN_SPAN, type NamedQuery, span, to } from '../named-query.ts';

const since = { ...from('90d'), name: 'since', meaning: 'not used since' };

/** What policy decided, and which of it was needed. */
export const POLICY_QUESTIONS: readonly NamedQuery[] = [
  {
    name: 'denials',
    question: 'Denials by reason, connection and principal',
    parameters: [from('24h'), to],
    sql: `${span(1, 2)}
select coalesce(reason, close_reason) as reason, connection, principal, decided_by,
  sum(decision_count)::bigint as denials, min(occurred_at) as first_at, max(occurred_at) as last_at, recheck, site
from audit.denies left join lateral unnest(reasons) as reason on true
where occurred_at >= $1::timestamptz and occurred_at < $2::timestamptz
  and ${IN_SPAN}
group by 1, 2, 3, 4, recheck, site
order by denials desc, 1, 2, 3, recheck, site`,
  },
  {
    name: 'shadow-differences',
    question: 'What would a shadow bundle have decided otherwise, for whom?',
    parameters: [from('24h'), to],
    sql: `${span(1, 2)}
select t.details #>> '{data,difference}' as difference, t.details #>> '{data,action}' as action, t.connection,
  coalesce(t.principal, t.details #>> '{subject,listener_principal}') as principal,
  concat(t.details #>> '{subject,target_host}', ':', t.details #>> '{subject,target_port}') as target,
  t.details #>> '{data,active,rule}' as active_rule, t.details #>> '{data,rule}' as shadow_rule,
  (select string_agg(distinct r ->> 'code', ',' order by r ->> 'code')
   from jsonb_array_elements(case t.details #>> '{data,difference}'
     when 'would_allow' then t.details #> '{data,active,reasons}' else t.details #> '{data,reasons}' end) as r) as reasons,
  (t.details #>> '{data,active,bundle,sequence}')::bigint as active_sequence,
  (t.details #>> '{data,bundle,sequence}')::bigint as shadow_sequence,
  sum(coalesce((t.details #>> '{data,count}')::bigint, 1))::bigint as differences,
  min(t.occurred_at) as first_at, max(t.occurred_at) as last_at, t.site
from audit.timeline as t
where t.type = 'policy.shadow' and t.details #>> '{data,difference}' is not null
  and t.occurred_at >= $1::timestamptz and t.occurred_at < $2::timestamptz
  and ${IN_SPAN}
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, t.site
order by differences desc, 1, 2, 3, 4, 5, t.site`,
  },
  {
    name: 'unused-grants',
    question: 'Which rules and grants did no decision need for so long?',
    parameters: [since],
    sql: `with span as (select * from audit.recorded_between($1::timestamptz, 'infinity')), decided as materialized (
  select action, policy_rules, reasons
  from audit.decisions
  where site is null and occurred_at >= $1::timestamptz
    and ${IN_SPAN}
), used as (
  select unnest(policy_rules) as rule_id from decided where action = 'allowed'
  union
  select substr(code, 8) from decided, unnest(reasons) as code where action = 'denied' and code like 'policy:%'
)
select rule_id, action, connection, title, owner, ticket, expires, location, agents, known_since
from audit.rules
where action <> 'limits' and coalesce(known_since, '-infinity') < $1::timestamptz
  and rule_id not in (select rule_id from used where rule_id is not null)
order by connection, rule_id, action`,
  },
  {
    name: 'expiring-rules',
    question: 'Which rules of bundles expire soon or have expired, and who owns them?',
    note:
      "grants are data and not among these rows: a bundle's are in its sallyport/grants/data.yaml, those of a data_file in the " +
      'file that `sallyport policy status -c agent.yaml` names',
    parameters: [{ name: 'days', type: 'integer', meaning: 'so many days ahead', fallback: '30' }],
    sql: `select expires_at, expires_at <= now() as expired, owner, ticket, rule_id, action, connection, title, location, agents
from audit.rules
where expires_at < now() + make_interval(days => $1::integer)
order by expires_at, rule_id, action`,
  },
  {
    name: 'removed-rules',
    question: 'Which streams were allowed by a rule that the policy in force no longer has?',
    parameters: [from('90d'), to],
    sql: `${span(1, 2)}
select s.policy_rule, s.agent, s.connection, count(*) as streams, count(*) filter (where s.state = 'open') as still_open,
  min(s.opened_at) as first_at, max(s.opened_at) as last_at, max(s.bundle_sequence) as last_bundle_sequence,
  array_agg(distinct s.principal) as principals
from audit.streams as s
where s.policy_rule is not null and s.site is null
  and s.opened_at >= $1::timestamptz and s.opened_at < $2::timestamptz
  and ${IN_SPAN}
  and exists (select from audit.rules as r where s.agent = any (r.agents))
  and not exists (select from audit.rules as r where s.agent = any (r.agents) and r.rule_id = s.policy_rule)
group by s.policy_rule, s.agent, s.connection
order by last_at desc, s.policy_rule`,
  },
  {
    name: 'bundle-at',
    question: 'Which policy bundle decided on an agent at an instant, and who signed it?',
    parameters: [
      { name: 'agent', type: 'text', meaning: 'name of the agent' },
      { name: 'at', type: 'instant', meaning: 'the instant', fallback: 'now' },
    ],
    sql: `select agent, occurred_at as activated_at, details #> '{data,bundle,sequence}' as bundle_sequence,
  details #>> '{data,bundle,revision}' as bundle_revision, details #>> '{data,bundle,sha256}' as bundle_sha256,
  details #>> '{data,signed_by}' as signed_by, event_id
from audit.timeline
where type = 'bundle.activated' and site is null and agent = $1 and occurred_at <= $2::timestamptz
order by occurred_at desc, seq desc
limit 1`,
  },
  {
    name: 'bundle-changes',
    question: 'What did two bundles decide differently on the traffic that both had?',
    parameters: [
      { name: 'before', type: 'text', meaning: 'earlier bundle: sequence, revision or digest' },
      { name: 'after', type: 'text', meaning: 'later bundle: sequence, revision or digest' },
      from('30d'),
      to,
    ],
    sql: `${span(3, 4)}, decided as (
  select kind, connection, principal, target_host, target_port, action, decision_count, policy_rule, reasons,
    case
      when $2 in (bundle_sha256, bundle_sequence::text, bundle_revision) then 'after'
      when $1 in (bundle_sha256, bundle_sequence::text, bundle_revision) then 'before'
    end as side
  from audit.decisions
  where site is null and occurred_at >= $3::timestamptz and occurred_at < $4::timestamptz
    and ${IN_SPAN}
), compared as (
  select kind, connection, principal, target_host, target_port,
    array_agg(distinct action order by action) filter (where side = 'before') as was,
    array_agg(distinct action order by action) filter (where side = 'after') as is_now,
    array_agg(distinct coalesce(policy_rule, array_to_string(reasons, ','))) filter (where side = 'before') as was_by,
    array_agg(distinct coalesce(policy_rule, array_to_string(reasons, ','))) filter (where side = 'after') as is_now_by,
    sum(decision_count) filter (where side = 'before')::bigint as decisions_before,
    sum(decision_count) filter (where side = 'after')::bigint as decisions_after
  from decided
  where side is not null
  group by kind, connection, principal, target_host, target_port
)
select
  case
    when was = '{allowed}' and 'denied' = any (is_now) then 'newly denied'
    when was = '{denied}' and 'allowed' = any (is_now) then 'newly allowed'
    when was <> is_now then 'no longer mixed'
    when was_by <> is_now_by and is_now = '{denied}' then 'other reasons'
    else 'another rule'
  end as change,
  kind, connection, principal, target_host, target_port, was_by, is_now_by, decisions_before, decisions_after
from compared
where was is not null and is_now is not null and (was <> is_now or was_by <> is_now_by)
order by 1, decisions_after desc, connection, principal, target_host, target_port`,
  },
];
