-- Answers in SQL. Views belong to audit_owner and read the tables for whoever may read the view.
set local role audit_owner;

create function audit.details(canonical bytea) returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return convert_from(canonical, 'UTF8')::jsonb;
exception
  when data_exception then
    return null;
end
$$;
comment on function audit.details(bytea) is 'The canonical bytes of an event as jsonb; null when they are no JSON.';

create view audit.decisions as
select
  e.occurred_at, e.recorded_at, e.local_at, e.agent_zone,
  case e.type when 'publish.decision' then 'publish' else 'stream' end as kind,
  e.action, e.decided_by, e.policy_rule, e.policy_rules, e.reasons, e.close_reason,
  e.connection, e.principal, e.auth_rule, e.key_id, e.key_slot, e.key_kind, e.proved_by,
  e.source_addr, e.client_addr, e.client_port, e.target_host, e.target_addr, e.target_port,
  e.agent, e.gateway, e.relay, e.listener_principal, e.listener_key_id, e.stream_id, e.attempt, e.link_id,
  e.bundle_revision, e.bundle_sequence, e.bundle_sha256, e.managed_sha256, e.eval_us,
  coalesce((audit.details(e.canonical) #>> '{data,count}')::bigint, 1) as decision_count,
  audit.details(e.canonical) #>> '{data,input}' as input,
  audit.details(e.canonical) #> '{data,candidates}' as candidates,
  audit.details(e.canonical) #> '{data,obligations}' as obligations,
  e.event_id, e.chain_id, e.seq
from audit.event as e
where e.type in ('stream.decision', 'publish.decision');
comment on view audit.decisions is 'Every decision to publish or to open a stream, with what it was made from.';

create view audit.denies as
select * from audit.decisions where action = 'denied';
comment on view audit.denies is 'Decisions that denied.';

create view audit.streams as
select
  d.stream_id, d.attempt, d.occurred_at as opened_at, c.occurred_at as closed_at,
  case when c.event_id is null then 'open' else 'closed' end as state,
  c.close_reason, c.bytes_up, c.bytes_down, c.dial_ms, c.duration_ms,
  d.connection, d.principal, d.auth_rule, d.key_id, d.key_slot, d.source_addr, d.client_addr, d.client_port,
  d.target_host, coalesce(c.target_addr, d.target_addr) as target_addr, d.target_port, d.agent, d.gateway,
  d.relay, d.link_id, d.stream_no, d.policy_rule, d.policy_rules, d.bundle_revision, d.bundle_sequence,
  d.bundle_sha256, d.local_at, d.agent_zone, d.event_id as decision_id, c.event_id as close_id, d.recorded_at,
  d.chain_id, d.seq
from audit.event as d
left join lateral (
  select k.*
  from audit.event as k
  where k.stream_id = d.stream_id
    and k.type in ('stream.close', 'stream.refused')
    and k.agent is not distinct from d.agent
    and coalesce(k.attempt, 1) = coalesce(d.attempt, 1)
    and k.recorded_at >= d.recorded_at
  order by k.recorded_at, k.seq
  limit 1
) as c on true
where d.type = 'stream.decision' and d.action = 'allowed';
comment on view audit.streams is 'One row per allowed stream, with its end when it has one.';

create view audit.active_streams as
select
  s.*,
  case
    when k.final or k.last_recorded_at < now() - interval '180 seconds' then 'unknown'
    else 'open'
  end as certainty
from audit.streams as s
join audit.chain as k on k.chain_id = s.chain_id
where s.state = 'open';
comment on view audit.active_streams is
  'Allowed streams without an end. certainty is unknown when the chain was silent for three heartbeats (180 s) or '
  'has ended: the agent''s next start closes such streams as agent_lost.';

create view audit.timeline as
select
  e.occurred_at, e.origin, e.type, e.action, e.connection, e.principal, e.stream_id, e.link_id, e.key_id,
  concat_ws(' ',
    e.type,
    case when e.action in ('allowed', 'denied') then e.action end,
    case when e.connection is not null then 'connection ' || e.connection end,
    case when e.principal is not null then 'by ' || e.principal end,
    case when e.target_host is not null then 'to ' || e.target_host || coalesce(':' || e.target_port, '') end,
    case when e.policy_rule is not null then 'rule ' || e.policy_rule end,
    case when e.reasons <> '{}' then 'because ' || array_to_string(e.reasons, ',') end,
    case when e.close_reason is not null then 'reason ' || e.close_reason end,
    case when e.bytes_up is not null then 'up ' || e.bytes_up end,
    case when e.bytes_down is not null then 'down ' || e.bytes_down end,
    case when e.actor is not null then 'actor ' || e.actor end) as summary,
  e.severity, e.agent, e.relay, e.gateway, e.source_addr, e.actor, audit.details(e.canonical) as details,
  e.projection_error, e.recorded_at, e.event_id, e.chain_id, e.seq
from audit.event as e
where e.type <> 'audit.heartbeat';
comment on view audit.timeline is 'Every event but heartbeats, with a sentence.';

create view audit.key_usage as
select
  e.key_id, e.key_slot, e.auth_rule, e.principal, e.connection,
  min(e.occurred_at) as first_used_at, max(e.occurred_at) as last_used_at,
  count(*) filter (where e.action = 'allowed') as allowed,
  count(*) filter (where e.action = 'denied') as denied,
  array_agg(distinct host(e.source_addr)) filter (where e.source_addr is not null) as sources
from audit.event as e
where e.key_id is not null and e.type = 'stream.decision'
group by e.key_id, e.key_slot, e.auth_rule, e.principal, e.connection;
comment on view audit.key_usage is 'First and last use of each key slot, and from where.';

create view audit.revocations as
select
  r.occurred_at as revoked_at, r.key_id, r.key_slot, r.auth_rule, r.connection, r.actor,
  audit.details(r.canonical) #>> '{data,reason}' as reason, r.revocation_id,
  f.nodes, f.links, f.streams, f.slowest_ms, f.last_enforced_at, r.event_id
from (
  select e.*, audit.details(e.canonical) #>> '{data,revocation_id}' as revocation_id
  from audit.event as e
  where e.type in ('key.revoked', 'identity.revoked')
) as r
left join lateral (
  select
    array_agg(distinct v.origin) as nodes,
    sum((audit.details(v.canonical) #>> '{data,links}')::bigint) as links,
    sum((audit.details(v.canonical) #>> '{data,streams}')::bigint) as streams,
    max((audit.details(v.canonical) #>> '{data,ms}')::double precision) as slowest_ms,
    max(v.occurred_at) as last_enforced_at
  from audit.event as v
  where v.type = 'revocation.enforced'
    and audit.details(v.canonical) #>> '{data,revocation_id}' = r.revocation_id
) as f on true;
comment on view audit.revocations is 'Revocations, by whom and why, with what each node cut and how fast.';

create view audit.health as
select
  k.origin_kind || '/' || k.origin_name as origin, k.chain_id, k.epoch,
  case
    when k.final then 'ended'
    when exists (select from audit.chain as n where n.prev_chain = k.chain_id) then 'replaced'
    when k.last_recorded_at < now() - interval '180 seconds' then 'silent'
    else 'live'
  end as state,
  k.last_recorded_at, k.last_sealed_at,
  extract(epoch from k.last_recorded_at - k.last_sealed_at)::double precision as lag_seconds,
  extract(epoch from now() - k.last_recorded_at)::double precision as silent_seconds,
  k.last_batch, k.last_seq, k.events, k.dropped, k.fork_alarms, k.last_alarm_at, k.signer, k.owner, k.prev_chain,
  (select count(*) from audit.event_default) as default_partition_rows,
  u.partitions_at, u.partitions_error
from audit.chain as k
cross join audit.upkeep as u;
comment on view audit.health is
  'One row per chain: whether it lives, how late it is, what was dropped; and the state of the partitions.';

create function audit.decisions_between(from_at timestamptz, to_at timestamptz)
returns setof audit.decisions
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  first_recorded timestamptz;
  last_recorded timestamptz;
begin
  select min(s.recorded_at), max(s.recorded_at) into first_recorded, last_recorded
  from audit.seal as s
  where s.last_at >= from_at and s.first_at < to_at;
  return query
  select d.* from audit.decisions as d
  where d.recorded_at >= first_recorded and d.recorded_at <= last_recorded
    and d.occurred_at >= from_at and d.occurred_at < to_at;
end
$$;
comment on function audit.decisions_between(timestamptz, timestamptz) is
  'Decisions that occurred from from_at (included) to to_at (not included), reading only the partitions that hold them.';

-- Columns of views are explained by the table column of the same name, the rest here.
do $comments$
declare
  found record;
begin
  for found in
    select v.relname, a.attname, coalesce(x.words, d.description) as words
    from pg_class as v
    join pg_attribute as a on a.attrelid = v.oid and a.attnum > 0
    left join (values
      ('kind', 'publish or stream.'),
      ('details', 'The whole event as jsonb.'),
      ('decision_count', 'How many identical denials the event stands for.'),
      ('input', 'The canonical policy input, as the engine parsed it.'),
      ('candidates', 'Each candidate address with its verdict.'),
      ('obligations', 'Obligations of the decision.'),
      ('opened_at', 'When the stream was allowed; of a chain, when it was first stored.'),
      ('closed_at', 'When the stream ended; null while it has not.'),
      ('state', 'Of a stream, open or closed; of a chain, live, silent, replaced or ended.'),
      ('decision_id', 'Event id of the decision.'),
      ('close_id', 'Event id of the end.'),
      ('certainty', 'open, or unknown when the chain is silent or has ended.'),
      ('summary', 'The event in a sentence.'),
      ('first_used_at', 'First decision for this key.'),
      ('last_used_at', 'Last decision for this key.'),
      ('allowed', 'Streams allowed.'),
      ('denied', 'Streams denied.'),
      ('sources', 'Addresses that the relay saw it come from.'),
      ('revoked_at', 'When the key was revoked.'),
      ('reason', 'The reason given.'),
      ('revocation_id', 'Id that joins a revocation to its enforcement.'),
      ('nodes', 'Writers that enforced it.'),
      ('links', 'Links cut.'),
      ('streams', 'Streams cut.'),
      ('slowest_ms', 'Slowest enforcement in milliseconds.'),
      ('last_enforced_at', 'When the last writer had enforced it.'),
      ('lag_seconds', 'From sealing to storing of the last batch.'),
      ('silent_seconds', 'Since the last batch was stored.'),
      ('default_partition_rows', 'Events in the default partition: days without a partition of their own.')
    ) as x (name, words) on x.name = a.attname
    left join lateral (
      select d.description
      from pg_attribute as o
      join pg_description as d on d.objoid = o.attrelid and d.objsubid = o.attnum
      where o.attname = a.attname
        and o.attrelid in ('audit.event'::regclass, 'audit.chain'::regclass, 'audit.upkeep'::regclass)
      order by o.attrelid = 'audit.event'::regclass desc
      limit 1
    ) as d on true
    where v.relnamespace = 'audit'::regnamespace and v.relkind = 'v'
  loop
    execute format('comment on column audit.%I.%I is %L', found.relname, found.attname, found.words);
  end loop;
end
$comments$;

reset role;
