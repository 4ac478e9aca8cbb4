-- What decided is kept: bundles with their catalogs, and grants that took the place of a bundle's. And which agent runs
-- what, since when, and how well.
set local role audit_owner;

alter table audit.chain add column site text;
comment on column audit.chain.site is 'Site that the chain was imported from; null for one written here.';

alter table audit.bundle add column stored_by name;
comment on column audit.bundle.stored_by is 'Login that stored it first.';
comment on column audit.bundle.revision is 'Revision in its manifest, as that login said; content says it itself.';
comment on column audit.bundle.sequence is 'Sequence in its manifest, as that login said; content says it itself.';
comment on column audit.bundle.content is
  'The bundle file. Policy text says who may reach what: audit_verify may read it, audit_read may not.';
comment on table audit.bundle_rule is
  'Catalog of the rules in each bundle, as the login that stored it said; content holds it too, under its digest.';

create table audit.bundle_grants (
  sha256 text,
  first_seen_at timestamptz not null,
  stored_by name not null,
  content bytea not null,
  constraint bundle_grants_pkey primary key (sha256)
);
comment on table audit.bundle_grants is 'Grants that agents took from a file of their own in place of a bundle''s, kept to decide again.';
comment on column audit.bundle_grants.sha256 is 'Digest of the content; grants_sha256 of the bundle in events.';
comment on column audit.bundle_grants.first_seen_at is 'When it was stored.';
comment on column audit.bundle_grants.stored_by is 'Login that stored it first.';
comment on column audit.bundle_grants.content is
  'The grants as JSON, as the engine had them: connection, principal, list. Readable as audit.bundle.content is.';
create trigger append_only before update or delete or truncate on audit.bundle_grants
  for each statement execute function audit.refuse_change();

do $compression$
begin
  alter table audit.bundle alter column content set compression lz4;
  alter table audit.bundle_grants alter column content set compression lz4;
exception
  when feature_not_supported then null;
end
$compression$;

create function audit.check_content(named_sha256 text, content bytea) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The limit of agents for a bundle file and for a grants file.
  if octet_length(content) not between 1 and 67108864 then
    raise exception '% bytes are not between 1 and the limit of 67108864', octet_length(content)
      using errcode = 'SA002';
  end if;
  if encode(sha256(content), 'hex') is distinct from named_sha256 then
    raise exception 'the content does not have the digest %', named_sha256 using errcode = 'SA002';
  end if;
end
$$;
comment on function audit.check_content(text, bytea) is
  'Raises SA002 unless the content is within its bound and has the digest that is said of it.';

create function audit.stored_content(bundles text[], grants text[]) returns setof text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select b.sha256 from audit.bundle as b where b.sha256 = any (bundles)
  union
  select g.sha256 from audit.bundle_grants as g where g.sha256 = any (grants)
$$;
comment on function audit.stored_content(text[], text[]) is
  'Which of these bundles and grants are stored already and need not be sent.';

create function audit.store_bundle(
  bundle_sha256 text, bundle_revision text, bundle_sequence bigint, content bytea, catalog jsonb
) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from audit.bundle as b where b.sha256 = bundle_sha256) then
    return false;
  end if;
  perform audit.check_content(bundle_sha256, content);
  -- 16 MiB of catalog are some 50,000 rules.
  if jsonb_typeof(catalog) <> 'array' or octet_length(catalog::text) > 16777216 then
    raise exception 'the catalog is no list of at most 16777216 bytes' using errcode = 'SA002';
  end if;
  insert into audit.bundle (sha256, revision, sequence, first_seen_at, content, stored_by)
  values (bundle_sha256, bundle_revision, bundle_sequence, clock_timestamp(), content, session_user)
  on conflict do nothing;
  if not found then
    return false;
  end if;
  insert into audit.bundle_rule (
    bundle_sha256, rule_id, action, connection, title, owner, ticket, expires, location
  )
  select bundle_sha256, r.id, r.action, r.connection, r.title, r.owner, r.ticket, r.expires, r.file || ':' || r.line
  from jsonb_to_recordset(catalog) as r (
    id text, action text, connection text, title text, owner text, ticket text, expires text, file text, line text
  )
  where r.id is not null and r.action is not null
  on conflict do nothing;
  return true;
end
$$;
comment on function audit.store_bundle(text, text, bigint, bytea, jsonb) is
  'Stores a bundle with its catalog unless it is there; true when it was stored now. SA002 when the content is empty, '
  'over 64 MiB or has another digest.';

create function audit.store_grants(grants_sha256 text, content bytea) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from audit.bundle_grants as g where g.sha256 = grants_sha256) then
    return false;
  end if;
  perform audit.check_content(grants_sha256, content);
  insert into audit.bundle_grants (sha256, first_seen_at, stored_by, content)
  values (grants_sha256, clock_timestamp(), session_user, content)
  on conflict do nothing;
  return found;
end
$$;
comment on function audit.store_grants(text, bytea) is
  'Stores grants unless they are there; true when they were stored now. SA002 as audit.store_bundle has it.';

create view audit.policy_rollout as
with activation as (
  select
    k.namespace, k.origin_name as agent, k.origin_instance as instance, e.occurred_at, e.event_id,
    e.bundle_sha256, d.data #>> '{bundle,grants_sha256}' as grants_sha256, e.bundle_revision, e.bundle_sequence,
    d.data ->> 'signed_by' as signed_by, d.data ->> 'source' as source,
    (d.data ->> 'generation')::bigint as generation,
    row_number() over placed as place,
    -- Compared as text: two nulls are the same grants.
    (e.bundle_sha256 || ' ' || coalesce(d.data #>> '{bundle,grants_sha256}', '')) is distinct from
    lag(e.bundle_sha256 || ' ' || coalesce(d.data #>> '{bundle,grants_sha256}', '')) over placed as begins
  from audit.event as e
  join audit.chain as k on k.chain_id = e.chain_id
  cross join lateral (select audit.details(e.canonical) -> 'data' as data) as d
  where e.type = 'bundle.activated' and e.shadow is not true and k.origin_kind = 'agent' and k.site is null
    and e.bundle_sha256 is not null
  window placed as (
    partition by k.namespace, k.origin_name, k.origin_instance order by k.opened_at, k.epoch, e.seq)
), numbered as (
  select a.*, count(*) filter (where a.begins) over (
    partition by a.namespace, a.agent, a.instance order by a.place) as run
  from activation as a
), run as (
  select
    n.namespace, n.agent, n.instance, n.run, min(n.place) as first_place, max(n.place) as last_place
  from numbered as n
  group by n.namespace, n.agent, n.instance, n.run
), told as (
  select
    l.namespace, l.agent, l.instance, l.bundle_sha256, l.grants_sha256, l.bundle_revision, l.bundle_sequence,
    l.signed_by, l.source, l.generation, f.occurred_at as active_since, l.occurred_at as last_activated_at,
    l.event_id, r.run
  from run as r
  join numbered as f
    on (f.namespace, f.agent, f.instance, f.place) = (r.namespace, r.agent, r.instance, r.first_place)
  join numbered as l
    on (l.namespace, l.agent, l.instance, l.place) = (r.namespace, r.agent, r.instance, r.last_place)
)
select
  t.namespace, t.agent, t.instance, lead(t.run) over ordered is null as is_current,
  t.bundle_sha256, t.grants_sha256, t.bundle_revision, t.bundle_sequence, t.signed_by, t.source, t.generation,
  t.active_since, lead(t.active_since) over ordered as active_until, t.last_activated_at,
  lag(t.bundle_sha256) over ordered as previous_sha256, lag(t.grants_sha256) over ordered as previous_grants_sha256,
  lag(t.bundle_revision) over ordered as previous_revision, lag(t.bundle_sequence) over ordered as previous_sequence,
  b.sha256 is not null as is_stored, t.event_id
from told as t
left join audit.bundle as b on b.sha256 = t.bundle_sha256
window ordered as (partition by t.namespace, t.agent, t.instance order by t.run);
comment on view audit.policy_rollout is
  'What each agent ran and runs: one row per bundle (with its grants file, if any) and uninterrupted time, restarts with '
  'the same one included. From bundle.activated. Agents of other sites are not shown.';

create view audit.policy_health as
with instance as (
  select distinct on (k.namespace, k.origin_name, k.origin_instance)
    k.namespace, k.origin_name as agent, k.origin_instance as instance, k.version, k.last_recorded_at,
    case
      when k.final then 'stopped'
      when k.last_recorded_at < now() - interval '7 days' then 'gone'
      when k.last_recorded_at < now() - interval '180 seconds' then 'silent'
      else 'running'
    end as state
  from audit.chain as k
  where k.origin_kind = 'agent' and k.origin_name is not null and k.site is null
  order by k.namespace, k.origin_name, k.origin_instance, k.opened_at desc, k.epoch desc
), happening as (
  select
    k.namespace, k.origin_name as agent, k.origin_instance as instance, e.type, e.occurred_at,
    e.bundle_sha256, e.bundle_revision, e.bundle_sequence, audit.details(e.canonical) -> 'data' as data,
    row_number() over (
      partition by k.namespace, k.origin_name, k.origin_instance order by k.opened_at, k.epoch, e.seq) as place
  from audit.event as e
  join audit.chain as k on k.chain_id = e.chain_id
  where e.type in ('bundle.activated', 'bundle.held', 'bundle.rejected', 'policy.error')
    and e.shadow is not true and k.origin_kind = 'agent' and k.site is null
), last as (
  select
    h.namespace, h.agent, h.instance,
    max(h.place) filter (where h.type = 'bundle.activated') as activated,
    max(h.place) filter (where h.type = 'bundle.held') as held,
    max(h.place) filter (where h.type = 'bundle.rejected') as rejected,
    max(h.place) filter (where h.data ->> 'code' = 'repeated_failures') as alarm,
    max(h.place) filter (where h.data ->> 'code' = 'bundle_stale') as stale,
    count(*) filter (where h.type = 'bundle.held' and h.occurred_at >= now() - interval '24 hours') as holds,
    count(*) filter (where h.type = 'bundle.rejected' and h.occurred_at >= now() - interval '24 hours') as rejections,
    count(*) filter (
      where h.data ->> 'code' = 'repeated_failures' and h.occurred_at >= now() - interval '24 hours') as alarms
  from happening as h
  group by h.namespace, h.agent, h.instance
), decided as (
  select
    k.namespace, k.origin_name as agent, k.origin_instance as instance, count(*) as decisions,
    sum(w.n) filter (where e.decided_by = 'engine' and 'policy_error' = any (e.reasons)) as policy_errors,
    sum(w.n) filter (where e.decided_by = 'engine' and 'policy_timeout' = any (e.reasons)) as policy_timeouts,
    sum(w.n) filter (where e.decided_by = 'engine' and 'policy_overload' = any (e.reasons)) as policy_overloads,
    sum(w.n) filter (where e.decided_by = 'engine' and e.reasons && '{no_bundle,bundle_stale}') as without_bundle,
    percentile_cont(array[0.5, 0.99]) within group (order by e.eval_us) filter (where e.eval_us > 0) as eval_us,
    max(e.eval_us) as eval_us_max
  from audit.event as e
  join audit.chain as k on k.chain_id = e.chain_id
  -- One event may stand for many identical denials; the others are not decoded for that.
  cross join lateral (
    select case when e.decided_by = 'engine'
      then coalesce((audit.details(e.canonical) #>> '{data,count}')::bigint, 1) else 1 end as n) as w
  where e.type in ('stream.decision', 'publish.decision')
    -- What happened in the last day was recorded in it, or in the hour that clocks may differ by.
    and e.recorded_at >= now() - interval '25 hours' and e.occurred_at >= now() - interval '24 hours'
    and e.shadow is not true and k.origin_kind = 'agent' and k.site is null
  group by k.namespace, k.origin_name, k.origin_instance
)
select
  i.namespace, i.agent, i.instance, i.version, i.state, i.last_recorded_at,
  a.bundle_sha256, a.bundle_revision, a.bundle_sequence,
  h.occurred_at as held_at, h.bundle_sha256 as held_sha256, h.bundle_revision as held_revision,
  h.bundle_sequence as held_sequence, (h.data ->> 'would_close')::bigint as held_would_close,
  h.data ->> 'detail' as held_detail,
  r.occurred_at as rejected_at, r.data ->> 'reason' as rejected_code, r.data ->> 'detail' as rejected_reason,
  coalesce(l.holds, 0) as holds, coalesce(l.rejections, 0) as rejections, coalesce(l.alarms, 0) as alarms,
  m.occurred_at as last_alarm_at, m.data ->> 'detail' as last_alarm_of,
  s.occurred_at as last_stale_at,
  coalesce(c.decisions, 0) as decisions, coalesce(c.policy_errors, 0) as policy_errors,
  coalesce(c.policy_timeouts, 0) as policy_timeouts, coalesce(c.policy_overloads, 0) as policy_overloads,
  coalesce(c.without_bundle, 0) as without_bundle,
  c.eval_us[1] as eval_us_p50, c.eval_us[2] as eval_us_p99, c.eval_us_max
from instance as i
left join last as l on (l.namespace, l.agent, l.instance) = (i.namespace, i.agent, i.instance)
left join happening as a
  on (a.namespace, a.agent, a.instance, a.place) = (i.namespace, i.agent, i.instance, l.activated)
left join happening as h
  on (h.namespace, h.agent, h.instance, h.place) = (i.namespace, i.agent, i.instance, l.held)
    and l.held > coalesce(l.activated, 0)
left join happening as r
  on (r.namespace, r.agent, r.instance, r.place) = (i.namespace, i.agent, i.instance, l.rejected)
    and l.rejected > coalesce(l.activated, 0)
left join happening as m
  on (m.namespace, m.agent, m.instance, m.place) = (i.namespace, i.agent, i.instance, l.alarm)
left join happening as s
  on (s.namespace, s.agent, s.instance, s.place) = (i.namespace, i.agent, i.instance, l.stale)
left join decided as c on (c.namespace, c.agent, c.instance) = (i.namespace, i.agent, i.instance);
comment on view audit.policy_health is
  'One row per agent instance: what it runs, what it refused or holds since then, and how its engine did in the last 24 '
  'hours. From the sealed events of its chains. Agents of other sites are not shown.';

do $comments$
declare
  found record;
begin
  for found in
    select v.relname, a.attname, coalesce(x.words, d.description) as words
    from pg_class as v
    join pg_attribute as a on a.attrelid = v.oid and a.attnum > 0
    left join (values
      ('agent', 'Name of the agent.'),
      ('instance', 'Instance of the agent: one installation, told by its state directory.'),
      ('is_current', 'The last that it activated.'),
      ('bundle_sha256', 'Digest of the bundle.'),
      ('bundle_revision', 'Revision of the bundle.'),
      ('bundle_sequence', 'Sequence of the bundle.'),
      ('grants_sha256', 'Digest of the grants that took the place of the bundle''s; null when its own decide.'),
      ('signed_by', 'Configured id of the key that verified the signature; null when none was verified.'),
      ('source', 'Path or address that the bundle came from.'),
      ('generation', 'Rises with every activation of a process.'),
      ('active_since', 'When it was activated first in this uninterrupted time.'),
      ('active_until', 'When another one was activated; null for the current one.'),
      ('last_activated_at', 'When it was activated last, by a restart perhaps.'),
      ('previous_sha256', 'Digest of the bundle before; the same when only the grants changed.'),
      ('previous_grants_sha256', 'Digest of the grants file before.'),
      ('previous_revision', 'Revision of the bundle before.'),
      ('previous_sequence', 'Sequence of the bundle before.'),
      ('is_stored', 'Whether audit.bundle has it.'),
      ('event_id', 'The last bundle.activated of this time.'),
      ('state', 'running; silent (nothing for 180 s), gone (nothing for 7 days), or stopped by its operator.'),
      ('held_at', 'When an activation was held that still waits; null when none does.'),
      ('held_sha256', 'Digest of what is held.'),
      ('held_revision', 'Revision of what is held.'),
      ('held_sequence', 'Sequence of what is held.'),
      ('held_would_close', 'Live streams that it would have closed.'),
      ('held_detail', 'Of how many, and the id that confirms it.'),
      ('rejected_at', 'When a bundle was refused last, since the current one was activated; null when none was.'),
      ('rejected_code', 'Error code of that refusal.'),
      ('rejected_reason', 'Why it was refused.'),
      ('holds', 'Activations held in the last 24 hours.'),
      ('rejections', 'Bundles refused in the last 24 hours.'),
      ('alarms', 'Alarms of the breaker in the last 24 hours.'),
      ('last_alarm_at', 'When the breaker last gave an alarm.'),
      ('last_alarm_of', 'Connection and principal whose streams failed repeatedly in the engine.'),
      ('last_stale_at', 'When the source of bundles last was silent for too long.'),
      ('decisions', 'Events of decisions in the last 24 hours.'),
      ('policy_errors', 'Denials of the last 24 hours because the engine failed.'),
      ('policy_timeouts', 'Denials of the last 24 hours because evaluation took too long.'),
      ('policy_overloads', 'Denials of the last 24 hours because no evaluator was free.'),
      ('without_bundle', 'Denials of the last 24 hours because there was no bundle, or its source was silent.'),
      ('eval_us_p50', 'Median evaluation time of the last 24 hours in microseconds.'),
      ('eval_us_p99', '99th percentile of it.'),
      ('eval_us_max', 'Longest of it.')
    ) as x (name, words) on x.name = a.attname
    left join lateral (
      select d.description
      from pg_attribute as o
      join pg_description as d on d.objoid = o.attrelid and d.objsubid = o.attnum
      where o.attname = a.attname and o.attrelid = 'audit.chain'::regclass
    ) as d on true
    where v.oid in ('audit.policy_rollout'::regclass, 'audit.policy_health'::regclass)
  loop
    execute format('comment on column audit.%I.%I is %L', found.relname, found.attname, found.words);
  end loop;
end
$comments$;

revoke execute on function
  audit.check_content(text, bytea), audit.stored_content(text[], text[]),
  audit.store_bundle(text, text, bigint, bytea, jsonb), audit.store_grants(text, bytea)
from public;
grant execute on function
  audit.stored_content(text[], text[]), audit.store_bundle(text, text, bigint, bytea, jsonb),
  audit.store_grants(text, bytea)
to audit_ingest;

grant select on audit.policy_rollout, audit.policy_health to audit_read, audit_verify;
-- The catalog is for everybody who reads; what is in a bundle is not.
grant select (sha256, revision, sequence, first_seen_at, stored_by) on audit.bundle to audit_read;
grant select (sha256, first_seen_at, stored_by) on audit.bundle_grants to audit_read;
grant select on audit.bundle_rule to audit_read;
grant select on audit.bundle_grants to audit_verify;

reset role;
