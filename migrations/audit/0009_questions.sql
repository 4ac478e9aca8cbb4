-- What the twenty questions of docs/audit-queries.md need: views, and indexes so that they stay answerable at size.
set local role audit_owner;

-- First-ever pairs of principal and target, answered from this index alone.
create index event_pair on audit.event (principal, target_host, target_port, site, occurred_at)
  where type = 'stream.decision' and action = 'allowed';
-- Everything but the types of which there is one or more for each stream or minute.
create index event_type_occurred_at on audit.event (type, occurred_at)
  where type not in (
    'stream.decision', 'stream.close', 'stream.refused', 'stream.resumed', 'audit.heartbeat');
create index event_link_id on audit.event (link_id) where type in ('link.opened', 'link.closed', 'link.refused');
-- Seals arrive in the order of time: which were recorded for a day long past is read from a few pages.
create index seal_times_brin on audit.seal using brin (first_at, last_at, recorded_at)
  with (pages_per_range = 16, autosummarize = on);

create function audit.recorded_between(
  from_at timestamptz, to_at timestamptz, out first_recorded timestamptz, out last_recorded timestamptz
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    case when from_at = '-infinity' then from_at else
      (select min(s.recorded_at) from audit.seal as s where s.last_at >= from_at and s.first_at < to_at) end,
    case when to_at = 'infinity' then to_at else
      (select max(s.recorded_at) from audit.seal as s where s.last_at >= from_at and s.first_at < to_at) end
$$;
comment on function audit.recorded_between(timestamptz, timestamptz) is
  'First and last recorded_at, both included, of what occurred from from_at (included) to to_at (not included): the bound '
  'that keeps a question by occurred_at or opened_at to the partitions that can answer it. Null when there is nothing.';

create function audit.instant(words text) returns timestamptz
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  if words ~ '^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$' then
    return words::timestamptz;
  end if;
  return null;
exception
  when data_exception then
    return null;
end
$$;
comment on function audit.instant(text) is 'A day or an RFC 3339 instant, in UTC; null for anything else, never included.';

-- Only denials are ever recorded with a count: nothing else is decoded to be counted.
create or replace view audit.decisions as
select
  e.occurred_at, e.recorded_at, e.local_at, e.agent_zone,
  case e.type when 'publish.decision' then 'publish' else 'stream' end as kind,
  e.action, e.decided_by, e.policy_rule, e.policy_rules, e.reasons, e.close_reason,
  e.connection, e.principal, e.auth_rule, e.key_id, e.key_slot, e.key_kind, e.proved_by,
  e.source_addr, e.client_addr, e.client_port, e.target_host, e.target_addr, e.target_port,
  e.agent, e.gateway, e.relay, e.listener_principal, e.listener_key_id, e.stream_id, e.attempt, e.link_id,
  e.bundle_revision, e.bundle_sequence, e.bundle_sha256, e.managed_sha256, e.eval_us,
  case e.action
    when 'denied' then coalesce((audit.details(e.canonical) #>> '{data,count}')::bigint, 1)
    else 1
  end as decision_count,
  audit.details(e.canonical) #>> '{data,input}' as input,
  audit.details(e.canonical) #> '{data,candidates}' as candidates,
  audit.details(e.canonical) #> '{data,obligations}' as obligations,
  e.event_id, e.chain_id, e.seq, e.site
from audit.event as e
where e.type in ('stream.decision', 'publish.decision');
comment on column audit.decisions.site is 'Site that it was imported from; null for what was written here.';

-- The end of a stream is looked for from its own partition on, and the search stops where it is: without an order by, the
-- partitions are tried one after the other, oldest first. A stream has one end. Policy that changes while a stream is opened
-- decides it anew: the last decision, which lies before the end and in the same chain, is the stream's.
create or replace view audit.streams as
select
  d.stream_id, d.attempt, d.occurred_at as opened_at, c.occurred_at as closed_at,
  case when c.event_id is null then 'open' else 'closed' end as state,
  c.close_reason, c.bytes_up, c.bytes_down, c.dial_ms, c.duration_ms,
  d.connection, d.principal, d.auth_rule, d.key_id, d.key_slot, d.source_addr, d.client_addr, d.client_port,
  d.target_host, coalesce(c.target_addr, d.target_addr) as target_addr, d.target_port, d.agent, d.gateway,
  d.relay, d.link_id, d.stream_no, d.policy_rule, d.policy_rules, d.bundle_revision, d.bundle_sequence,
  d.bundle_sha256, d.local_at, d.agent_zone, d.event_id as decision_id, c.event_id as close_id, d.recorded_at,
  d.chain_id, d.seq, d.site
from audit.event as d
left join lateral (
  select k.event_id, k.occurred_at, k.close_reason, k.bytes_up, k.bytes_down, k.dial_ms, k.duration_ms, k.target_addr,
    k.recorded_at
  from audit.event as k
  where k.stream_id = d.stream_id
    and k.type in ('stream.close', 'stream.refused')
    and k.agent is not distinct from d.agent
    and k.site is not distinct from d.site
    and coalesce(k.attempt, 1) = coalesce(d.attempt, 1)
    and k.recorded_at >= d.recorded_at
  limit 1
) as c on true
left join lateral (
  select true as is_there
  from audit.event as n
  where n.stream_id = d.stream_id
    and n.type = 'stream.decision' and n.action = 'allowed'
    and n.chain_id = d.chain_id and n.seq > d.seq
    and coalesce(n.attempt, 1) = coalesce(d.attempt, 1)
    and n.recorded_at >= d.recorded_at and n.recorded_at <= coalesce(c.recorded_at, 'infinity')
  limit 1
) as later on true
where d.type = 'stream.decision' and d.action = 'allowed' and later.is_there is null;
comment on view audit.streams is
  'One row per allowed stream, with its end when it has one; of a stream that was decided again while it was opened, by the '
  'last decision.';
comment on column audit.streams.site is 'Site that it was imported from; null for what was written here.';

-- Only streams without an end: an anti-join, not every stream with its end looked up.
create or replace view audit.active_streams as
select
  d.stream_id, d.attempt, d.occurred_at as opened_at, null::timestamptz as closed_at, 'open' as state,
  null::text as close_reason, null::bigint as bytes_up, null::bigint as bytes_down, null::double precision as dial_ms,
  null::double precision as duration_ms,
  d.connection, d.principal, d.auth_rule, d.key_id, d.key_slot, d.source_addr, d.client_addr, d.client_port,
  d.target_host, d.target_addr, d.target_port, d.agent, d.gateway, d.relay, d.link_id, d.stream_no, d.policy_rule,
  d.policy_rules, d.bundle_revision, d.bundle_sequence, d.bundle_sha256, d.local_at, d.agent_zone,
  d.event_id as decision_id, null::uuid as close_id, d.recorded_at, d.chain_id, d.seq,
  case
    when k.final or k.site is not null or k.last_recorded_at < now() - interval '180 seconds' then 'unknown'
    else 'open'
  end as certainty,
  least(
    d.occurred_at
      + make_interval(secs => (audit.details(d.canonical) #>> '{data,obligations,max_seconds}')::double precision),
    audit.instant(audit.details(d.canonical) #>> '{data,recheck_at}')) as allowed_until,
  d.site
from audit.event as d
join audit.chain as k on k.chain_id = d.chain_id
where d.type = 'stream.decision' and d.action = 'allowed' and not exists (
  select from audit.event as c
  where c.stream_id = d.stream_id
    and (c.type in ('stream.close', 'stream.refused')
      or (c.type = 'stream.decision' and c.action = 'allowed' and c.chain_id = d.chain_id and c.seq > d.seq))
    and c.agent is not distinct from d.agent
    and c.site is not distinct from d.site
    and coalesce(c.attempt, 1) = coalesce(d.attempt, 1)
    and c.recorded_at >= d.recorded_at);
comment on view audit.active_streams is
  'Allowed streams without an end. certainty is unknown when the chain was silent for three heartbeats (180 s) or '
  'has ended: the agent''s next start closes such streams as agent_lost. Of another site it is always unknown: its end may '
  'have come after the export.';
comment on column audit.active_streams.certainty is
  'open, or unknown when the chain is silent, has ended or was imported.';
comment on column audit.active_streams.site is 'Site that it was imported from; null for what was written here.';

create or replace view audit.revocations as
select
  r.occurred_at as revoked_at, r.key_id, r.key_slot, r.auth_rule, r.connection, r.actor,
  audit.details(r.canonical) #>> '{data,reason}' as reason, r.revocation_id,
  f.nodes, f.links, f.streams, f.slowest_ms, f.last_enforced_at, r.event_id, r.site
from (
  select e.*, audit.details(e.canonical) #>> '{data,revocation_id}' as revocation_id
  from audit.event as e
  where e.type in ('key.revoked', 'identity.revoked') and not exists (
    select from audit.event as f
    where f.event_id = e.event_id and f.site is not distinct from e.site
      and (f.recorded_at, f.chain_id, f.seq) < (e.recorded_at, e.chain_id, e.seq))
) as r
left join (
  select
    x.details #>> '{data,revocation_id}' as revocation_id, v.site,
    array_agg(distinct v.origin) as nodes,
    -- A link has two ends: the agent tells of the same ones that the relay cut.
    sum((x.details #>> '{data,links}')::bigint) filter (where v.origin like 'relay/%') as links,
    sum((x.details #>> '{data,streams}')::bigint) filter (where v.origin like 'relay/%') as streams,
    max((x.details #>> '{data,ms}')::double precision) as slowest_ms,
    max(v.occurred_at) as last_enforced_at
  from audit.event as v
  cross join lateral (select audit.details(v.canonical) as details offset 0) as x
  where v.type = 'revocation.enforced'
  group by 1, 2
) as f on f.revocation_id = r.revocation_id and f.site is not distinct from r.site;
comment on column audit.revocations.site is 'Site that it was imported from; null for what was written here.';

create or replace view audit.key_usage as
select
  e.key_id, e.key_slot, e.auth_rule, e.principal, e.connection,
  min(e.occurred_at) as first_used_at, max(e.occurred_at) as last_used_at,
  count(*) filter (where e.action = 'allowed') as allowed,
  count(*) filter (where e.action = 'denied') as denied,
  array_agg(distinct host(e.source_addr)) filter (where e.source_addr is not null) as sources,
  e.site
from audit.event as e
where e.key_id is not null and e.type = 'stream.decision'
group by e.key_id, e.key_slot, e.auth_rule, e.principal, e.connection, e.site;
comment on column audit.key_usage.site is 'Site that it was imported from; null for what was written here.';

create view audit.first_seen as
select
  e.principal, e.target_host, e.target_port, min(e.occurred_at) as first_at, max(e.occurred_at) as last_at,
  count(*) as streams, e.site
from audit.event as e
where e.type = 'stream.decision' and e.action = 'allowed'
group by e.principal, e.target_host, e.target_port, e.site;
comment on view audit.first_seen is
  'Each pair of principal and target that ever had an allowed stream, with its first and last; of each site by itself.';

create view audit.admin_changes as
select
  e.occurred_at, e.actor, e.type,
  case e.type when 'admin.action' then x.details #>> '{data,action}' else e.type end as change,
  coalesce(
    e.key_id,
    case when e.type like 'auth\_rule.%' then concat_ws('/', e.connection, e.auth_rule) end,
    e.connection, x.details #>> '{data,detail,token_id}', e.identity_id,
    case when e.type in ('signer.added', 'signer.rotated') then x.details #>> '{data,signer}' end,
    e.bundle_revision, e.bundle_sha256, e.agent) as subject,
  case when e.type like 'bundle.%' then x.details #> '{data,previous}' else x.details #> '{data,before}' end as before,
  case
    when e.type like 'bundle.%' then x.details #> '{data,bundle}'
    else coalesce(x.details #> '{data,after}', x.details #> '{data,detail}')
  end as after,
  x.details #>> '{data,reason}' as reason,
  e.connection, e.auth_rule, e.key_id, e.key_slot, e.agent, e.origin, x.details, e.recorded_at, e.event_id, e.chain_id,
  e.seq, e.site
from audit.event as e
cross join lateral (select audit.details(e.canonical) as details) as x
where e.type in (
    'key.created', 'key.rotated', 'key.disclosed', 'key.revoked', 'auth_rule.changed', 'connection.created',
    'connection.changed', 'connection.deleted', 'enrolment.created', 'enrolment.used', 'enrolment.refused',
    'identity.revoked', 'bundle.activated', 'bundle.held', 'bundle.rejected', 'managed.changed', 'managed.refused',
    'audit.retained', 'audit.exported', 'signer.added', 'signer.rotated', 'admin.action')
  and (e.actor is null or not exists (
    select from audit.event as f
    where f.event_id = e.event_id and f.recorded_at <= e.recorded_at and f.site is not distinct from e.site
      and (f.recorded_at, f.chain_id, f.seq) < (e.recorded_at, e.chain_id, e.seq)));
comment on view audit.admin_changes is
  'Who changed what: connections, rules, keys, tokens, policy, managed settings, evidence, with the state before and after. '
  'A change that was handed over twice is shown once.';

create view audit.reconciliation as
with side as (
  select
    e.link_id, e.occurred_at, e.recorded_at, e.close_reason, e.bytes_up, e.bytes_down, e.connection, e.principal,
    e.agent, e.gateway, e.event_id, e.site,
    split_part(e.origin, '/', 1) as kind,
    coalesce(e.relay, audit.details(e.canonical) #>> '{data,node}') as relay
  from audit.event as e
  where e.type = 'link.closed' and e.origin ~ '^(agent|relay)/'
), link as (
  select
    r.link_id, r.connection, r.principal, r.gateway, r.relay, r.agent, r.occurred_at as closed_at, r.recorded_at,
    r.close_reason as relay_reason, a.close_reason as agent_reason,
    r.bytes_up as relay_bytes_up, a.bytes_up as agent_bytes_up,
    r.bytes_down as relay_bytes_down, a.bytes_down as agent_bytes_down,
    r.event_id as relay_event_id, a.event_id as agent_event_id, 'relay' as kind, r.site
  from side as r
  left join side as a on a.link_id = r.link_id and a.kind = 'agent' and a.site is not distinct from r.site
  where r.kind = 'relay'
  union all
  select
    a.link_id, a.connection, a.principal, a.gateway, a.relay, a.agent, a.occurred_at, a.recorded_at, null,
    a.close_reason, null, a.bytes_up, null, a.bytes_down, null, a.event_id, 'agent', a.site
  from side as a
  where a.kind = 'agent' and not exists (
    select from audit.event as r
    where r.link_id = a.link_id and r.type = 'link.closed' and r.origin like 'relay/%'
      and r.site is not distinct from a.site)
), writer as (
  select c.origin_kind as kind, c.origin_name as name, c.site, max(c.last_sealed_at) as sealed_until
  from audit.chain as c
  group by c.origin_kind, c.origin_name, c.site
)
select
  l.link_id, l.closed_at, l.connection, l.principal, l.gateway, l.relay, l.agent, l.relay_reason, l.agent_reason,
  l.relay_bytes_up, l.agent_bytes_up, l.relay_bytes_down, l.agent_bytes_down,
  case
    when l.relay_event_id is not null and l.agent_event_id is not null then
      case
        when l.agent_bytes_up = l.relay_bytes_up and l.agent_bytes_down = l.relay_bytes_down then 'agrees'
        -- An orderly end of the session loses no byte.
        when l.agent_reason in ('gateway_shutdown', 'idle_timeout') then 'mismatch'
        -- Elsewhere what was under way may be lost, but nobody receives what was not sent: an agent that counts more than
        -- the relay forwarded to it. One that counts less, both ways, is no finding, and shown for what it is.
        when l.agent_bytes_up > l.relay_bytes_up then 'mismatch'
        when l.agent_bytes_down < l.relay_bytes_down then 'agent_behind'
        else 'cut_short'
      end
    when w.name is null then 'other_side_absent'
    when w.sealed_until < l.closed_at + interval '60 seconds' then 'pending'
    when o.chain_id is null and not exists (
      select from audit.chain as c
      where c.origin_kind = w.kind and c.origin_name = w.name and c.site is not distinct from l.site
        and c.opened_at <= l.recorded_at and c.last_recorded_at >= l.recorded_at) then 'other_side_absent'
    when o.chain_id is not null and exists (
      select from audit.chain as c
      where c.chain_id = o.chain_id and (c.final or exists (
        select from audit.chain as n
        where n.prev_chain = c.chain_id and n.site is not distinct from c.site))) then 'other_side_lost'
    else 'other_side_missing'
  end as outcome,
  l.recorded_at, l.relay_event_id, l.agent_event_id, l.site
from link as l
left join writer as w
  on w.kind = case l.kind when 'relay' then 'agent' else 'relay' end
  and w.name = case l.kind when 'relay' then l.agent else l.relay end
  and w.site is not distinct from l.site
left join lateral (
  select e.chain_id
  from audit.event as e
  where e.link_id = l.link_id and e.type = 'link.opened' and e.origin like w.kind || '/%'
    and e.site is not distinct from l.site
    and (l.relay_event_id is null or l.agent_event_id is null)
  limit 1
) as o on true;
comment on view audit.reconciliation is
  'Each closed link as relay and agent saw it, with the carrier''s payload bytes each way. mismatch and other_side_missing are '
  'findings; the other outcomes are explained: see the column.';

create view audit.rules as
with in_force as (
  select a.bundle_sha256, max(a.bundle_sequence) as bundle_sequence, max(a.bundle_revision) as bundle_revision,
    array_agg(a.agent order by a.agent) as agents
  from (
    select distinct on (e.agent) e.agent, e.bundle_sha256, e.bundle_sequence, e.bundle_revision
    from audit.event as e
    where e.type = 'bundle.activated' and e.shadow is not true and e.site is null
    order by e.agent, e.occurred_at desc
  ) as a
  group by a.bundle_sha256
), known as (
  select r.rule_id, r.action, min(b.first_seen_at) as known_since
  from audit.bundle_rule as r
  join audit.bundle as b on b.sha256 = r.bundle_sha256
  group by r.rule_id, r.action
)
select
  r.rule_id, r.action, r.connection, r.title, r.owner, r.ticket, r.expires, audit.instant(r.expires) as expires_at,
  r.location, f.agents, f.bundle_sequence, f.bundle_revision, r.bundle_sha256, k.known_since
from in_force as f
join audit.bundle_rule as r on r.bundle_sha256 = f.bundle_sha256
left join known as k on k.rule_id = r.rule_id and k.action = r.action;
comment on view audit.rules is
  'Rules and grants of the bundles in force: of each agent of this site, the one that it activated last.';

create view audit.unused_grants as
with used as (
  select m.rule_id from audit.event as e
  cross join lateral unnest(e.policy_rules) as m (rule_id)
  where e.type in ('stream.decision', 'publish.decision') and e.action = 'allowed' and e.site is null
  union
  select substr(m.code, 8) from audit.event as e
  cross join lateral unnest(e.reasons) as m (code)
  where e.type in ('stream.decision', 'publish.decision') and e.action = 'denied' and m.code like 'policy:%'
    and e.site is null
)
select r.*
from audit.rules as r
where r.action <> 'limits' and not exists (select from used as u where u.rule_id = r.rule_id);
comment on view audit.unused_grants is
  'Rules and grants in force that no recorded decision of this site was made by: allow rules that allowed nothing, deny rules that denied '
  'nothing. Limits are not listed: a decision does not say which of them it took.';

create view audit.retained as
select
  t.retained_at, t.before, t.partitions, t.signer, t.retention_id, e.occurred_at as recorded_as_at, e.origin, e.event_id
from audit.retention as t
left join lateral (
  select k.occurred_at, k.origin, k.event_id
  from audit.event as k
  where k.type = 'audit.retained' and k.site is null and audit.details(k.canonical) #>> '{data,request_sha256}' = encode(sha256(t.canonical), 'hex')
  limit 1
) as e on true;
comment on view audit.retained is 'What retention removed, by whose signed request, and the event that says so.';

-- Columns are explained here, or by the column of the same name of audit.event, audit.bundle_rule or audit.retention.
do $comments$
declare
  found record;
begin
  for found in
    select v.relname, a.attname, coalesce(x.words, d.description) as words
    from pg_class as v
    join pg_attribute as a on a.attrelid = v.oid and a.attnum > 0
    left join (values
      ('active_streams', 'allowed_until', 'When its time limit or the rule that allows it ends, whichever is first; null: no end is set.'),
      ('first_seen', 'first_at', 'When the first stream of the pair was allowed.'),
      ('first_seen', 'last_at', 'When the last stream of the pair was allowed.'),
      ('first_seen', 'streams', 'Streams allowed.'),
      ('admin_changes', 'change', 'The type of the event, or of an admin.action which one: token.created, keyring.rotated, …'),
      ('admin_changes', 'subject', 'What was changed: a key, rule, connection, token, bundle or agent.'),
      ('admin_changes', 'before', 'State before; null for what is new, and where nothing was changed (a disclosure).'),
      ('admin_changes', 'after', 'State after; null for what was removed, and where nothing was changed.'),
      ('admin_changes', 'reason', 'The reason given.'),
      ('admin_changes', 'details', 'The whole event as jsonb.'),
      ('reconciliation', 'closed_at', 'When the link was closed, by the relay''s clock; by the agent''s where only it has a record.'),
      ('reconciliation', 'recorded_at', 'When that was recorded.'),
      ('reconciliation', 'relay_reason', 'Close reason in the relay''s words.'),
      ('reconciliation', 'agent_reason', 'Close reason in the agent''s words.'),
      ('reconciliation', 'relay_bytes_up', 'Carrier payload bytes to the agent that the relay forwarded.'),
      ('reconciliation', 'agent_bytes_up', 'Carrier payload bytes that the agent received.'),
      ('reconciliation', 'relay_bytes_down', 'Carrier payload bytes from the agent that the relay forwarded.'),
      ('reconciliation', 'agent_bytes_down', 'Carrier payload bytes that the agent sent.'),
      ('reconciliation', 'outcome',
        'agrees: the same bytes both ways. cut_short: the link broke and the receiving side counted less than the sending one. '
        'agent_behind: the link broke, and the agent counted less than the relay both ways. '
        'mismatch: an orderly end with other counts, or an agent that received more than the relay sent. pending: the other side''s chain '
        'is not stored up to a minute after the close. other_side_absent: the other side''s chain is not in this database. '
        'other_side_lost: the other side ended (crash, kill) with the link open. other_side_missing: the other side''s chain goes '
        'on and has no close of this link.'),
      ('reconciliation', 'relay_event_id', 'The relay''s link.closed.'),
      ('reconciliation', 'agent_event_id', 'The agent''s link.closed.'),
      ('rules', 'expires_at', 'The same as an instant; null for never, and for a text that is none (such a rule does not allow).'),
      ('rules', 'agents', 'Agents whose bundle in force has the rule.'),
      ('rules', 'known_since', 'When the first bundle with a rule of this id was stored.'),
      ('retained', 'recorded_as_at', 'When the event audit.retained was written; null: no event tells of this request.'),
      ('retained', 'origin', 'Writer of that event.'),
      ('retained', 'event_id', 'That event.')
    ) as x (view, name, words) on x.name = a.attname
      and (x.view = v.relname or (x.view = 'rules' and v.relname = 'unused_grants'))
    left join lateral (
      select d.description
      from pg_attribute as o
      join pg_description as d on d.objoid = o.attrelid and d.objsubid = o.attnum
      where o.attname = a.attname
        and o.attrelid in (
          'audit.event'::regclass, 'audit.bundle_rule'::regclass, 'audit.retention'::regclass)
      order by o.attrelid = 'audit.event'::regclass desc
      limit 1
    ) as d on true
    where v.relnamespace = 'audit'::regnamespace
      and (v.relname in ('first_seen', 'admin_changes', 'reconciliation', 'rules', 'unused_grants', 'retained')
        or (v.relname = 'active_streams' and a.attname = 'allowed_until'))
  loop
    execute format('comment on column audit.%I.%I is %L', found.relname, found.attname, found.words);
  end loop;
end
$comments$;

revoke execute on function audit.recorded_between(timestamptz, timestamptz), audit.instant(text) from public;
grant execute on function audit.recorded_between(timestamptz, timestamptz), audit.instant(text) to audit_read, audit_verify;
grant select on
  audit.first_seen, audit.admin_changes, audit.reconciliation, audit.rules, audit.unused_grants, audit.retained
to audit_read, audit_verify;

reset role;
