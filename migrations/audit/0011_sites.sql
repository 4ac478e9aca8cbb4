-- Evidence of other sites: chains that a login of its own imports, marked with the name of the site.
set local role audit_owner;

create table audit.site (
  login name constraint site_pkey primary key,
  site text not null constraint site_name_key unique constraint site_name_check check (site ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
  added_at timestamptz not null default now()
);
comment on table audit.site is 'Other sites whose evidence is imported, each by a login of its own.';
comment on column audit.site.login is 'Login that imports; every chain that it opens is of this site.';
comment on column audit.site.site is 'Name of the site.';
comment on column audit.site.added_at is 'When it was added.';
create trigger append_only before update or delete or truncate on audit.site
  for each statement execute function audit.refuse_change();

create function audit.importing_site() returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select s.site from audit.site as s where s.login = session_user
$$;
comment on function audit.importing_site() is 'The site that this login imports for; null for any other login.';

alter table audit.chain alter column site set default audit.importing_site();

create function audit.own_chains()
returns table (chain_id uuid, last_batch bigint, last_seq bigint, head bytea, final boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select k.chain_id, k.last_batch, k.last_seq, k.head, k.final from audit.chain as k where k.owner = session_user
$$;
comment on function audit.own_chains() is 'Where the chains of this login stand.';

-- As in 0003, but for the site: that of the chain, whatever an event says of itself. Events of an imported chain came late,
-- which says nothing of the writer's clock.
create or replace function audit.store_events(
  batch_recorded_at timestamptz, batch_chain uuid, batch_first bigint, skew_ms integer, events bytea[]
) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into audit.event (
    recorded_at, chain_id, seq, event_id, occurred_at, clock_skew_ms, schema_version, type, class_uid,
    activity_id, action, disposition, severity, origin, namespace, agent, local_at, agent_zone, relay, gateway,
    connection, connection_id, principal, auth_rule, key_id, key_slot, key_kind, identity_id, proved_by,
    listener_principal, listener_key_id, stream_id, stream_no, stream_kind, attempt, link_id, carrier, own_spki,
    peer_spki, login_id, site, client_addr, client_port, source_addr, target_host, target_addr, target_port,
    decided_by, policy_rule, policy_rules, reasons, close_reason, bundle_revision, bundle_sequence,
    bundle_sha256, managed_sha256, shadow, eval_us, dial_ms, bytes_up, bytes_down, duration_ms, actor,
    projection_error, canonical
  )
  select
    batch_recorded_at, batch_chain, batch_first + b.place - 1, env.id, env.at,
    case when c.site is null then skew_ms end, env.v, env.type,
    t.class_uid, t.activity_id,
    case d.allow when true then 'allowed' when false then 'denied' else t.action end,
    case d.allow when true then 'allowed' when false then 'blocked' else t.disposition end,
    t.severity, o.kind || '/' || o.name, coalesce(s.namespace, o.namespace),
    coalesce(s.agent, case when o.kind = 'agent' then o.name end), env.local, o.zone,
    coalesce(s.relay, case when o.kind = 'relay' then o.name end), s.gateway,
    s.connection, s.connection_id, s.principal, s.auth_rule, s.key_id, s.key_slot, s.key_kind, s.identity_id,
    s.proved_by, s.listener_principal, s.listener_key_id, s.stream_id, s.stream_no, s.stream_kind, s.attempt,
    s.link_id, s.carrier, s.own_spki, s.peer_spki, s.login_id, c.site, s.client_addr, s.client_port,
    s.source_addr, s.target_host, s.target_addr, s.target_port,
    d.decided_by, d.rule,
    case when d.rules is not null then
      array(select jsonb_array_elements_text(coalesce(d.rules -> 'publish', '[]')))
      || array(select jsonb_array_elements_text(coalesce(d.rules -> 'stream', '[]')))
    end,
    case when d.reasons is not null then
      array(select item ->> 'code' from jsonb_array_elements(d.reasons) as item)
    end,
    case when env.type ~ '^(stream|link|publish|login)\.' or env.type = 'unpublish' then d.reason end,
    u.revision, u.sequence, u.sha256, d.managed_sha256, d.shadow, d.eval_us, d.dial_ms, d.bytes_up,
    d.bytes_down, d.duration_ms, s.actor,
    case when env.unfit is not null then
      (select string_agg(name, ',' order by name collate "C") from jsonb_object_keys(env.unfit) as name)
    end,
    b.bytes
  from unnest(events) with ordinality as b (bytes, place)
  left join audit.chain as c on c.chain_id = batch_chain
  cross join lateral jsonb_to_record(convert_from(b.bytes, 'UTF8')::jsonb) as env (
    id uuid, at timestamptz, v integer, type text, local timestamp, origin jsonb, subject jsonb, data jsonb,
    unfit jsonb
  )
  cross join lateral jsonb_to_record(env.origin) as o (kind text, name text, namespace text, zone text)
  cross join lateral jsonb_to_record(env.subject) as s (
    namespace text, agent text, relay text, gateway text, connection text, connection_id text, principal text,
    auth_rule text, key_id text, key_slot text, key_kind text, identity_id text, proved_by text,
    listener_principal text, listener_key_id text, stream_id uuid, stream_no bigint, stream_kind text,
    attempt integer, link_id uuid, carrier text, own_spki text, peer_spki text, login_id text,
    client_addr inet, client_port integer, source_addr inet, target_host text, target_addr inet,
    target_port integer, actor text
  )
  cross join lateral jsonb_to_record(env.data) as d (
    allow boolean, decided_by text, rule text, rules jsonb, reasons jsonb, reason text, bundle jsonb,
    managed_sha256 text, shadow boolean, eval_us double precision, dial_ms double precision, bytes_up bigint,
    bytes_down bigint, duration_ms double precision
  )
  cross join lateral jsonb_to_record(coalesce(d.bundle, '{}')) as u (sha256 text, revision text, sequence bigint)
  left join audit.event_type as t on t.type = env.type
$$;

create or replace function audit.store_each(
  batch_recorded_at timestamptz, batch_chain uuid, batch_first bigint, skew_ms integer, events bytea[]
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  site_of_chain constant text := (select c.site from audit.chain as c where c.chain_id = batch_chain);
begin
  for at in 1 .. coalesce(array_length(events, 1), 0) loop
    begin
      perform audit.store_events(batch_recorded_at, batch_chain, batch_first + at - 1, skew_ms, events[at:at]);
    exception
      when others then
        if left(sqlstate, 2) not in ('22', '23') then
          raise;
        end if;
        insert into audit.event (recorded_at, chain_id, seq, clock_skew_ms, site, projection_error, canonical)
        values (
          batch_recorded_at, batch_chain, batch_first + at - 1, case when site_of_chain is null then skew_ms end,
          site_of_chain, 'sqlstate ' || sqlstate, events[at]);
    end;
  end loop;
end
$$;

-- Answers name the site, as their last column; those of 0009 do already.
create or replace view audit.denies as
select * from audit.decisions where action = 'denied';
comment on column audit.denies.site is 'Site that it was imported from; null for what was written here.';

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
  e.projection_error, e.recorded_at, e.event_id, e.chain_id, e.seq,
  e.site
from audit.event as e
where e.type <> 'audit.heartbeat'
  -- Only changes of the control plane have an actor, and only they are ever handed over again.
  and (e.actor is null or not exists (
    select from audit.event as f
    where f.event_id = e.event_id and f.site is not distinct from e.site
      and (f.recorded_at, f.chain_id, f.seq) < (e.recorded_at, e.chain_id, e.seq)));
comment on column audit.timeline.site is 'Site that it was imported from; null for what was written here.';

revoke execute on function audit.importing_site() from public;
revoke execute on function audit.own_chains() from public;
grant execute on function audit.importing_site(), audit.own_chains() to audit_ingest;
-- A login that imports for another site appends and does nothing else.
grant usage on schema audit to audit_import;
grant execute on function
  audit.append(text[], bytea, bytea, integer[], timestamptz), audit.importing_site(), audit.own_chains()
to audit_import;
grant select on audit.site to audit_verify;

reset role;
