-- A denial that ended an open stream or took back a published connection is told from one that kept it from beginning:
-- its event has data.recheck. Events without it are as before.
set local role audit_owner;

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
  e.event_id, e.chain_id, e.seq, e.site,
  -- A re-check that allows a stream again is not recorded: those events are not decoded for it.
  case
    when e.action = 'denied' or e.type = 'publish.decision'
      then coalesce(audit.details(e.canonical) #> '{data,recheck}' = 'true', false)
    else false
  end as recheck
from audit.event as e
where e.type in ('stream.decision', 'publish.decision');

create or replace view audit.denies as
select * from audit.decisions where action = 'denied';

create or replace view audit.timeline as
select
  e.occurred_at, e.origin, e.type, e.action, e.connection, e.principal, e.stream_id, e.link_id, e.key_id,
  concat_ws(' ',
    e.type,
    case when e.action in ('allowed', 'denied') then e.action end,
    case
      when e.type in ('stream.decision', 'publish.decision')
        and audit.details(e.canonical) #> '{data,recheck}' = 'true' then 'at a re-check'
    end,
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
  e.projection_error, e.recorded_at, e.event_id, e.chain_id, e.seq,
  e.site
from audit.event as e
where e.type <> 'audit.heartbeat'
  -- Only changes of the control plane have an actor, and only they are ever handed over again.
  and (e.actor is null or not exists (
    select from audit.event as f
    where f.event_id = e.event_id and f.site is not distinct from e.site
      and (f.recorded_at, f.chain_id, f.seq) < (e.recorded_at, e.chain_id, e.seq)));

create or replace view audit.key_usage as
select
  e.key_id, e.key_slot, e.auth_rule, e.principal, e.connection,
  min(e.occurred_at) as first_used_at, max(e.occurred_at) as last_used_at,
  count(*) filter (where e.action = 'allowed') as allowed,
  count(*) filter (where e.action = 'denied' and not r.recheck) as denied,
  array_agg(distinct host(e.source_addr)) filter (where e.source_addr is not null) as sources,
  e.site,
  count(*) filter (where e.action = 'denied' and r.recheck) as cut
from audit.event as e
cross join lateral (
  select case e.action
    when 'denied' then coalesce(audit.details(e.canonical) #> '{data,recheck}' = 'true', false)
    else false
  end as recheck) as r
where e.key_id is not null and e.type = 'stream.decision'
group by e.key_id, e.key_slot, e.auth_rule, e.principal, e.connection, e.site;

do $comments$
declare
  view text;
begin
  foreach view in array array['decisions', 'denies'] loop
    execute format('comment on column audit.%I.recheck is %L', view,
      'True: decided again about an open stream or a published connection, which a denial ends. False: it was to begin, or '
      'the event is older than this column.');
  end loop;
end
$comments$;
comment on column audit.key_usage.denied is 'Streams denied; those that were open already are in cut.';
comment on column audit.key_usage.cut is 'Open streams that a re-check ended.';

reset role;
