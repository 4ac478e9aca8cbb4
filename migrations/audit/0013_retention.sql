-- Retention: an operator's signed request, a writer's sealed word that it saw it, and only then a detached partition.
set local role audit_owner;

create table audit.retention_request (
  retention_id uuid,
  request_sha256 text not null,
  requested_at timestamptz not null,
  signature bytea not null,
  canonical bytea not null,
  constraint retention_request_pkey primary key (retention_id)
);
comment on table audit.retention_request is
  'Requests to remove partitions, as operators signed them. What was removed is in audit.retention.';
comment on column audit.retention_request.retention_id is 'UUIDv7 of the request.';
comment on column audit.retention_request.request_sha256 is 'SHA-256 over canonical, hex, as audit.retained names it.';
comment on column audit.retention_request.requested_at is 'When the database stored it.';
comment on column audit.retention_request.signature is 'Ed25519 signature.';
comment on column audit.retention_request.canonical is 'RFC 8785 bytes of the request.';
create trigger append_only before update or delete or truncate on audit.retention_request
  for each statement execute function audit.refuse_change();

create table audit.retention_claim (
  retention_id uuid,
  claimed_by name not null,
  claimed_at timestamptz not null,
  constraint retention_claim_pkey primary key (retention_id)
);
comment on table audit.retention_claim is 'Which writer looks at a request, so that not all of them record it. No evidence.';
comment on column audit.retention_claim.retention_id is 'The request.';
comment on column audit.retention_claim.claimed_by is 'Login of the writer.';
comment on column audit.retention_claim.claimed_at is 'When it took the request; another may after two minutes.';

create index seal_recorded_at_brin on audit.seal using brin (recorded_at);

create function audit.retention_events(wanted text, since timestamptz)
returns table (chain_id uuid, seq bigint)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select e.chain_id, e.seq
  from audit.event as e
  join audit.chain as k on k.chain_id = e.chain_id
  -- The word of another site removes nothing here.
  where e.type = 'audit.retained' and e.recorded_at >= since and k.site is null
    and audit.details(e.canonical) #>> '{data,request_sha256}' = wanted
  order by e.recorded_at, e.chain_id, e.seq
$$;
comment on function audit.retention_events(text, timestamptz) is
  'Sealed events of writers of this site that name a request by its SHA-256.';

create function audit.partitions_ahead(days integer) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if days is null or days not between 0 and 366 then
    raise exception 'partitions ahead: % days, not 0 to 366', days using errcode = 'SA001';
  end if;
  return audit.ensure_partitions(days);
end
$$;
comment on function audit.partitions_ahead(integer) is
  'Makes daily partitions from today on, at most 366 days ahead; returns what could not be made, or null.';

create function audit.removable(before timestamptz)
returns table (day text, chain_id uuid, first_batch bigint, last_batch bigint, seal bytea, newest timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with day as (
    select right(c.relname, 8) as name, (to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC') as begins
    from pg_inherits as i
    join pg_class as c on c.oid = i.inhrelid
    where i.inhparent = 'audit.event'::regclass and c.relname ~ '^event_[0-9]{8}$'
      and (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' <= before
  ), batch as (
    select d.name, s.chain_id, s.batch_no, s.sealed_at,
      s.batch_no - row_number() over (partition by d.name, s.chain_id order by s.batch_no) as run
    from day as d
    join audit.seal as s on s.recorded_at >= d.begins and s.recorded_at < d.begins + interval '24 hours'
  ), ranges as (
    select b.name, b.chain_id, min(b.batch_no) as first_batch, max(b.batch_no) as last_batch, max(b.sealed_at) as newest
    from batch as b group by b.name, b.chain_id, b.run
  )
  select d.name, r.chain_id, r.first_batch, r.last_batch, s.seal, r.newest
  from day as d
  left join ranges as r on r.name = d.name
  left join audit.seal as s on s.chain_id = r.chain_id and s.batch_no = r.last_batch
  order by d.name, r.chain_id, r.first_batch
$$;
comment on function audit.removable(timestamptz) is
  'Attached daily partitions that ended before an instant, with the batches that they hold: a row for each unbroken range '
  'of a chain, with the digest of its last seal and the latest time of sealing; one row with nulls for an empty day.';

create function audit.request_retention(request text, signature bytea) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  id constant uuid := (request::jsonb ->> 'id')::uuid;
begin
  if octet_length(signature) is distinct from 64 or id is null then
    raise exception 'a retention request has an id and a signature of 64 bytes' using errcode = 'SA001';
  end if;
  insert into audit.retention_request (retention_id, request_sha256, requested_at, signature, canonical)
  values (
    id, encode(sha256(convert_to(request, 'UTF8')), 'hex'), clock_timestamp(), signature, convert_to(request, 'UTF8'));
  return id;
end
$$;
comment on function audit.request_retention(text, bytea) is
  'Stores an operator''s signed request for a writer to see. It removes nothing.';

create function audit.next_retention() returns table (request text, signature bytea)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  r audit.retention_request%rowtype;
begin
  if not pg_try_advisory_xact_lock(hashtext('audit.next_retention')) then
    return;
  end if;
  select q.* into r
  from audit.retention_request as q
  left join audit.retention_claim as k on k.retention_id = q.retention_id
  where q.requested_at > now() - interval '1 day'
    and (k.claimed_at is null or k.claimed_at < now() - interval '2 minutes')
    and not exists (select from audit.retention_events(q.request_sha256, q.requested_at))
  order by q.requested_at
  limit 1;
  if not found then
    return;
  end if;
  insert into audit.retention_claim as k (retention_id, claimed_by, claimed_at)
  values (r.retention_id, session_user, now())
  on conflict (retention_id) do update set claimed_by = excluded.claimed_by, claimed_at = excluded.claimed_at;
  request := convert_from(r.canonical, 'UTF8');
  signature := r.signature;
  return next;
end
$$;
comment on function audit.next_retention() is
  'A request of the last day that no sealed event names yet, for the caller to check and record; others get it after two minutes.';

create function audit.retention_recorded(id uuid) returns table (chain_id uuid, seq bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select e.chain_id, e.seq
  from audit.retention_request as q
  cross join lateral audit.retention_events(q.request_sha256, q.requested_at) as e
  where q.retention_id = id
  limit 1
$$;
comment on function audit.retention_recorded(uuid) is 'The first sealed event that names a request; none until a writer has recorded it.';

create function audit.detach_retained(id uuid, drop_them boolean) returns text[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  q audit.retention_request%rowtype;
  r jsonb;
  day text;
  parent text;
  name text;
  begins timestamptz;
  uncovered record;
  detached text[] := '{}';
begin
  select * into q from audit.retention_request as k where k.retention_id = id for update;
  if not found then
    raise exception 'there is no retention request %', id using errcode = 'SA002';
  end if;
  if exists (select from audit.retention as t where t.retention_id = id) then
    raise exception 'retention request % was carried out before', id using errcode = 'SA002';
  end if;
  if not exists (select from audit.retention_events(q.request_sha256, q.requested_at)) then
    raise exception 'no sealed event names retention request %', id using errcode = 'SA002';
  end if;
  r := convert_from(q.canonical, 'UTF8')::jsonb;
  for day in select jsonb_array_elements_text(r -> 'days') loop
    if day !~ '^[0-9]{8}$' then
      raise exception 'retention request % names the day %', id, day using errcode = 'SA002';
    end if;
    begins := to_date(day, 'YYYYMMDD')::timestamp at time zone 'UTC';
    select s.chain_id, s.batch_no into uncovered
    from audit.seal as s
    where s.recorded_at >= begins and s.recorded_at < begins + interval '24 hours'
      and not exists (
        select from jsonb_to_recordset(r -> 'batches') as b (chain uuid, first bigint, last bigint)
        where b.chain = s.chain_id and s.batch_no between b.first and b.last)
    limit 1;
    if found then
      raise exception 'retention request % does not cover batch % of chain % of day %',
        id, uncovered.batch_no, uncovered.chain_id, day using errcode = 'SA002';
    end if;
    foreach parent in array array['event', 'seal_leaves'] loop
      name := format('%s_%s', parent, day);
      if not exists (
        select from pg_inherits as i
        where i.inhparent = format('audit.%I', parent)::regclass and i.inhrelid = to_regclass(format('audit.%I', name)))
      then
        raise exception 'audit.% is no partition', name using errcode = 'SA002';
      end if;
      execute format('alter table audit.%I detach partition audit.%I', parent, name);
      if drop_them then
        execute format('drop table audit.%I', name);
      else
        execute format('alter table audit.%I rename to %I', name, name || '_detached');
      end if;
      detached := detached || name;
    end loop;
  end loop;
  insert into audit.retention (retention_id, retained_at, before, partitions, signer, signature, canonical)
  values (id, clock_timestamp(), (r ->> 'before')::timestamptz, detached, r ->> 'signer', q.signature, q.canonical);
  return detached;
end
$$;
comment on function audit.detach_retained(uuid, boolean) is
  'Detaches the partitions of a request that a sealed event names, all or none, waiting two seconds for each lock; they '
  'stay as tables named …_detached, or are dropped. Returns their names.';

revoke execute on function
  audit.retention_events(text, timestamptz), audit.partitions_ahead(integer), audit.removable(timestamptz),
  audit.request_retention(text, bytea), audit.next_retention(), audit.retention_recorded(uuid),
  audit.detach_retained(uuid, boolean)
from public;
grant execute on function audit.next_retention() to audit_ingest;
grant execute on function
  audit.partitions_ahead(integer), audit.removable(timestamptz), audit.request_retention(text, bytea),
  audit.retention_recorded(uuid), audit.detach_retained(uuid, boolean)
to audit_retention;
grant select on audit.retention_request, audit.retention_claim to audit_verify, audit_retention;

reset role;
