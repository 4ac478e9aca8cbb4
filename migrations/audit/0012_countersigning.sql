-- Heads that writers hold for each other: each heartbeat names the heads of other chains, signed with the rest of its chain.
set local role audit_owner;

create function audit.recent_heads(own_chain uuid, head_limit integer)
returns table (chain_id uuid, batch_no bigint, head bytea, omitted bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select k.chain_id, k.last_batch, k.head,
    greatest(count(*) over () - least(greatest(head_limit, 0), 1000), 0)
  from audit.chain as k
  where k.chain_id <> own_chain and k.last_batch > 0 and audit.importing_site() is null
  -- Those of this site first: an import must not push them out.
  order by k.site is not null, k.last_recorded_at desc, k.chain_id
  limit least(greatest(head_limit, 0), 1000)
$$;
comment on function audit.recent_heads(uuid, integer) is
  'Heads of the chains that were written to last, but for the caller''s, at most 1,000, those of this site first; with how '
  'many chains are left out. '
  'A login that imports for another site sees none.';

revoke execute on function audit.recent_heads(uuid, integer) from public;
grant execute on function audit.recent_heads(uuid, integer) to audit_ingest;

reset role;
