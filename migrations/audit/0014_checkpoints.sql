-- Checkpoints: what a writer saw of all chains, signed, also kept outside the database (docs/audit-format.md, Checkpoint).
set local role audit_owner;

alter table audit.checkpoint
  add column series uuid not null,
  add column number bigint not null,
  add column owner name not null,
  add column recorded_at timestamptz not null,
  add constraint checkpoint_series_key unique (owner, series, number);
comment on column audit.checkpoint.series is 'Sequence of checkpoints of one writer for one place.';
comment on column audit.checkpoint.number is 'Place in the series, from 1.';
comment on column audit.checkpoint.owner is 'Login that stored it.';
comment on column audit.checkpoint.recorded_at is 'When the database stored it.';
create index checkpoint_signer_recorded_at on audit.checkpoint (signer, recorded_at);

create function audit.checkpoint_heads(head_limit integer)
returns table (chain_id uuid, batch_no bigint, head bytea, omitted bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select k.chain_id, k.last_batch, k.head,
    greatest(count(*) over () - least(greatest(head_limit, 0), 1000), 0)
  from audit.chain as k
  where k.last_batch > 0 and audit.importing_site() is null
    -- Only a chain of the same login: a made-up continuation must not hide another writer's chain.
    and not exists (select from audit.chain as n where n.prev_chain = k.chain_id and n.owner = k.owner and n.last_batch > 0)
  order by k.last_recorded_at desc, k.chain_id
  limit least(greatest(head_limit, 0), 1000)
$$;
comment on function audit.checkpoint_heads(integer) is
  'Heads of the chains that none continues, those written to last first, at most 1,000; with how many are left out. A login '
  'that imports for another site sees none.';

create function audit.store_checkpoint(checkpoint text, signature bytea) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  c jsonb;
  bytes constant bytea := convert_to(checkpoint, 'UTF8');
begin
  if octet_length(signature) is distinct from 64 or octet_length(bytes) not between 1 and 1048576 then
    raise exception 'a checkpoint has at most 1 MiB and a signature of 64 bytes' using errcode = 'SA001';
  end if;
  c := checkpoint::jsonb;
  if audit.importing_site() is not null
    or not exists (select from audit.chain as k where k.owner = session_user and k.signer = c ->> 'signer')
  then
    return 'not_owner';
  end if;
  insert into audit.checkpoint (
    checkpoint_id, made_at, signer, signature, canonical, series, number, owner, recorded_at)
  values (
    (c ->> 'id')::uuid, (c ->> 'time')::timestamptz, c ->> 'signer', signature, bytes, (c ->> 'series')::uuid,
    (c ->> 'number')::bigint, session_user, clock_timestamp())
  on conflict do nothing;
  if found then
    return 'stored';
  end if;
  if exists (
    select from audit.checkpoint as k
    where k.checkpoint_id = (c ->> 'id')::uuid and k.canonical = bytes and k.signature = store_checkpoint.signature)
  then
    return 'acknowledged';
  end if;
  return 'differs';
end
$$;
comment on function audit.store_checkpoint(text, bytea) is
  'Stores a checkpoint under the signer of a chain of this login: stored, acknowledged (the same was there), differs '
  '(another has its id or its place), not_owner.';

create or replace view audit.health as
select
  k.origin_kind || '/' || k.origin_name as origin, k.chain_id, k.epoch,
  case
    when k.final then 'ended'
    when exists (
      select from audit.chain as n where n.prev_chain = k.chain_id and n.site is not distinct from k.site) then 'replaced'
    when k.site is not null then 'imported'
    when k.last_recorded_at < now() - interval '180 seconds' then 'silent'
    else 'live'
  end as state,
  k.last_recorded_at, k.last_sealed_at,
  case when k.site is null then extract(epoch from k.last_recorded_at - k.last_sealed_at)::double precision
  end as lag_seconds,
  case when k.site is null then extract(epoch from now() - k.last_recorded_at)::double precision end as silent_seconds,
  k.last_batch, k.last_seq, k.events, k.dropped, k.fork_alarms, k.last_alarm_at, k.signer, k.owner, k.prev_chain,
  (select count(*) from audit.event_default) as default_partition_rows,
  u.partitions_at, u.partitions_error,
  k.site,
  (select max(c.recorded_at) from audit.checkpoint as c where c.signer = k.signer) as last_checkpoint_at
from audit.chain as k
cross join audit.upkeep as u;
comment on view audit.health is
  'One row per chain: whether it lives, how late it is, what was dropped; and the state of the partitions. Of a chain of '
  'another site nothing is known but what was imported: it is neither live nor silent.';
comment on column audit.health.state is
  'live, silent for 180 s, replaced by the next chain, or ended; imported: of another site, which may have gone on.';
comment on column audit.health.lag_seconds is 'From sealing to storing of the last batch; null for another site.';
comment on column audit.health.silent_seconds is 'Since the last batch was stored; null for another site.';
comment on column audit.health.site is 'Site that it was imported from; null for what was written here.';
comment on column audit.health.last_checkpoint_at is
  'When its signer last stored a checkpoint; null when it makes none.';

revoke execute on function audit.checkpoint_heads(integer), audit.store_checkpoint(text, bytea) from public;
grant execute on function audit.checkpoint_heads(integer), audit.store_checkpoint(text, bytea) to audit_ingest;

reset role;
