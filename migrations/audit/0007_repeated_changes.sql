-- A change of the control plane that was handed over twice has two events under one id: answers show the first.
set local role audit_owner;

create or replace view audit.timeline as
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
where e.type <> 'audit.heartbeat'
  -- Only changes of the control plane have an actor, and only they are ever handed over again.
  and (e.actor is null or not exists (
    select from audit.event as f
    where f.event_id = e.event_id and (f.recorded_at, f.chain_id, f.seq) < (e.recorded_at, e.chain_id, e.seq)));

create or replace view audit.revocations as
select
  r.occurred_at as revoked_at, r.key_id, r.key_slot, r.auth_rule, r.connection, r.actor,
  audit.details(r.canonical) #>> '{data,reason}' as reason, r.revocation_id,
  f.nodes, f.links, f.streams, f.slowest_ms, f.last_enforced_at, r.event_id
from (
  select e.*, audit.details(e.canonical) #>> '{data,revocation_id}' as revocation_id
  from audit.event as e
  where e.type in ('key.revoked', 'identity.revoked') and not exists (
    select from audit.event as f
    where f.event_id = e.event_id and (f.recorded_at, f.chain_id, f.seq) < (e.recorded_at, e.chain_id, e.seq))
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

reset role;
