-- Exports leave an event: a reader's notice, for a writer to record. Old checkpoints go with what retention removed.
set local role audit_owner;

create table audit.export_notice (
  notice_id uuid,
  export_id uuid not null,
  stage text not null,
  noticed_at timestamptz not null,
  login name not null,
  client_addr inet,
  format text not null,
  from_at timestamptz,
  to_at timestamptz,
  output text not null,
  rows bigint,
  bytes bigint,
  sha256 text,
  signer text,
  constraint export_notice_pkey primary key (notice_id)
);
comment on table audit.export_notice is
  'What was said of exports when they were made, for a writer to record as audit.exported. The event is the evidence, not the row.';
comment on column audit.export_notice.notice_id is 'UUIDv7, made here: the id of the audit event.';
comment on column audit.export_notice.export_id is 'The notice of the same export''s beginning.';
comment on column audit.export_notice.stage is 'begun, ended, or failed.';
comment on column audit.export_notice.noticed_at is 'When the database stored it.';
comment on column audit.export_notice.login is 'Login that exports, as the database knows it.';
comment on column audit.export_notice.client_addr is 'Where it connected from; null for a local socket.';
comment on column audit.export_notice.format is 'Format of the export.';
comment on column audit.export_notice.from_at is 'Events from then on; null: from the first.';
comment on column audit.export_notice.to_at is 'Events before then; null: to the last.';
comment on column audit.export_notice.output is 'File or directory, or - for standard output, in the exporter''s words.';
comment on column audit.export_notice.rows is 'Events written; null at the beginning.';
comment on column audit.export_notice.bytes is 'Bytes of them; of evidence, of all its files.';
comment on column audit.export_notice.sha256 is 'SHA-256 of what was written, hex; of evidence, of its manifest.';
comment on column audit.export_notice.signer is 'Exporter''s key that signs the manifest; null for other formats.';
create trigger append_only before update or delete or truncate on audit.export_notice
  for each statement execute function audit.refuse_change();
create index export_notice_export_id on audit.export_notice (export_id);

create table audit.export_claim (
  notice_id uuid,
  claimed_by name,
  claimed_at timestamptz,
  settled boolean not null,
  constraint export_claim_pkey primary key (notice_id)
);
comment on table audit.export_claim is 'How far notices of exports are on their way to an event. No evidence.';
comment on column audit.export_claim.notice_id is 'The notice.';
comment on column audit.export_claim.claimed_by is 'Login of the writer that took it last; null: none has.';
comment on column audit.export_claim.claimed_at is 'When that was; another may after two minutes.';
comment on column audit.export_claim.settled is 'Its event was seen in the trail.';
create index export_claim_waiting on audit.export_claim (notice_id) where not settled;

create function audit.has_export_event(id uuid, since timestamptz) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from audit.event as e
    join audit.chain as k on k.chain_id = e.chain_id
    where e.event_id = id and e.type = 'audit.exported' and e.recorded_at >= since and k.site is null)
$$;
comment on function audit.has_export_event(uuid, timestamptz) is 'Whether a writer of this site has recorded a notice of an export.';

create function audit.notice_export(
  begun uuid, stage text, format text, from_at timestamptz, to_at timestamptz, output text, rows bigint, bytes bigint,
  sha256 text, signer text)
returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  at constant timestamptz := clock_timestamp();
  -- 48 bits of milliseconds, then 7 as the version (RFC 9562 §5.7); the variant is that of the random one.
  id constant uuid := encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    placing substring(int8send(floor(extract(epoch from at) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid;
begin
  if (stage = 'begun') is distinct from (begun is null) or stage is null or stage not in ('begun', 'ended', 'failed')
    or format is null or output is null or octet_length(format) > 32 or octet_length(output) > 1024
    or rows < 0 or bytes < 0 or sha256 !~ '^[0-9a-f]{64}$' or signer !~ '^s_[0-9a-f]{20}$'
  then
    raise exception 'a notice of an export has a stage, a format of 32 bytes, an output of 1024, and digests' using errcode = 'SA001';
  end if;
  if begun is not null and not exists (
    select from audit.export_notice as n
    where n.notice_id = begun and n.stage = 'begun' and n.login = session_user)
  then
    raise exception 'this login has begun no export %', begun using errcode = 'SA001';
  end if;
  if (select count(*) from (select from audit.export_claim as k where not k.settled limit 10000) as waiting) = 10000 then
    raise exception '10000 notices of exports wait for a relay or agent to record them' using errcode = 'SA001';
  end if;
  insert into audit.export_notice
  values (
    id, coalesce(begun, id), stage, at, session_user, inet_client_addr(), format, from_at, to_at, output, rows, bytes,
    sha256, signer);
  insert into audit.export_claim (notice_id, settled) values (id, false);
  return id;
end
$$;
comment on function audit.notice_export(uuid, text, text, timestamptz, timestamptz, text, bigint, bigint, text, text) is
  'Says that the caller exports, for a writer to record; with the id of the first notice, how it went. At most 10,000 wait.';

create function audit.export_recorded(id uuid) returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select audit.has_export_event(n.notice_id, n.noticed_at) from audit.export_notice as n where n.notice_id = id
$$;
comment on function audit.export_recorded(uuid) is 'Whether a sealed event tells of a notice; null: there is no such notice.';

create function audit.next_exports()
returns table (
  notice_id uuid, export_id uuid, stage text, at_ms bigint, login text, client_addr text, format text, from_at timestamptz,
  to_at timestamptz, output text, rows bigint, bytes bigint, sha256 text, signer text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if audit.importing_site() is not null or not pg_try_advisory_xact_lock(hashtext('audit.next_exports')) then
    return;
  end if;
  update audit.export_claim as k set settled = true
  from audit.export_notice as n
  where n.notice_id = k.notice_id and not k.settled and k.claimed_at is not null
    and audit.has_export_event(n.notice_id, n.noticed_at);
  return query
  with taken as (
    update audit.export_claim as k set claimed_by = session_user, claimed_at = now()
    where k.notice_id in (
      select w.notice_id from audit.export_claim as w
      where not w.settled and (w.claimed_at is null or w.claimed_at < now() - interval '2 minutes')
      order by w.notice_id
      limit 100)
    returning k.notice_id
  )
  select n.notice_id, n.export_id, n.stage, floor(extract(epoch from n.noticed_at) * 1000)::bigint, n.login::text,
    host(n.client_addr), n.format, n.from_at, n.to_at, n.output, n.rows, n.bytes, n.sha256, n.signer
  from audit.export_notice as n
  join taken as t on t.notice_id = n.notice_id
  order by n.notice_id;
end
$$;
comment on function audit.next_exports() is
  'Up to 100 notices of exports that no sealed event tells of yet, for the caller to record; others get them after two minutes.';

-- A checkpoint may go when a request for retention that was carried out is for its time, and a later one of its series stays.
create function audit.guard_checkpoint() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from audit.retention as t
    where old.made_at < t.before and old.recorded_at < t.before and audit.checkpoint_time(old.checkpoint_id) < t.before)
    or not exists (
      select from audit.checkpoint as c
      where c.owner = old.owner and c.series = old.series and c.number > old.number)
  then
    raise exception 'checkpoint % is append-only: delete refused', old.checkpoint_id using errcode = 'insufficient_privilege';
  end if;
  return old;
end
$$;
comment on function audit.guard_checkpoint() is
  'Trigger that lets only those checkpoints go that retention is for, and the last one of no series.';

create function audit.guard_checkpoints() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from audit.retention) then
    raise exception 'audit.checkpoint is append-only: delete refused' using errcode = 'insufficient_privilege';
  end if;
  return null;
end
$$;
comment on function audit.guard_checkpoints() is 'Trigger that refuses to delete checkpoints where retention was never carried out.';

create function audit.checkpoint_time(id uuid) returns timestamptz
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
$$;
comment on function audit.checkpoint_time(uuid) is 'When a UUIDv7 was made, by its first 48 bits.';

drop trigger append_only on audit.checkpoint;
create trigger append_only before update or truncate on audit.checkpoint
  for each statement execute function audit.refuse_change();
create trigger guard_checkpoints before delete on audit.checkpoint
  for each statement execute function audit.guard_checkpoints();
create trigger guard_checkpoint before delete on audit.checkpoint
  for each row execute function audit.guard_checkpoint();

create function audit.remove_checkpoints(id uuid) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  until timestamptz;
  removed bigint;
begin
  select t.before into until from audit.retention as t where t.retention_id = id;
  if not found then
    raise exception 'retention request % was not carried out', id using errcode = 'SA002';
  end if;
  delete from audit.checkpoint as c
  where c.made_at < until and c.recorded_at < until and audit.checkpoint_time(c.checkpoint_id) < until
    and exists (
      select from audit.checkpoint as n where n.owner = c.owner and n.series = c.series and n.number > c.number);
  get diagnostics removed = row_count;
  return removed;
end
$$;
comment on function audit.remove_checkpoints(uuid) is
  'Deletes the checkpoints made before what a request says that was carried out, but for the last one of each series. Returns how many.';

revoke execute on function
  audit.has_export_event(uuid, timestamptz),
  audit.notice_export(uuid, text, text, timestamptz, timestamptz, text, bigint, bigint, text, text),
  audit.export_recorded(uuid), audit.next_exports(), audit.guard_checkpoint(), audit.guard_checkpoints(), audit.checkpoint_time(uuid),
  audit.remove_checkpoints(uuid)
from public;
grant execute on function audit.next_exports() to audit_ingest;
grant execute on function
  audit.notice_export(uuid, text, text, timestamptz, timestamptz, text, bigint, bigint, text, text),
  audit.export_recorded(uuid)
to audit_verify;
grant execute on function audit.remove_checkpoints(uuid) to audit_retention;
grant select on audit.export_notice, audit.export_claim to audit_verify;

reset role;
