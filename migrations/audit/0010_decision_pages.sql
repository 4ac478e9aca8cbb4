-- A page of recorded decisions is read seal by seal. Asked for by time alone, a partition that has no statistics yet was read
-- whole for each page.
set local role audit_owner;

-- What is replayed, proposed and counted as used is the traffic of this site.
create or replace function audit.decision_pages(from_at timestamptz, to_at timestamptz, most_events integer)
returns table (first_recorded timestamptz, last_recorded timestamptz, event_count bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with moments as (
    -- A moment is never split between two pages: it may hold several seals.
    select s.recorded_at as moment, sum(s.event_count) as n
    from audit.seal as s
    left join audit.chain as k on k.chain_id = s.chain_id
    where s.last_at >= from_at and s.first_at < to_at and k.site is null
    group by s.recorded_at
  ), numbered as (
    select m.moment, m.n, floor((sum(m.n) over (order by m.moment) - m.n) / most_events) as page
    from moments as m
  )
  select min(n.moment), max(n.moment), sum(n.n)::bigint from numbered as n group by n.page order by n.page
$$;
comment on function audit.decision_pages(timestamptz, timestamptz, integer) is
  'Ranges of recorded_at, both ends included, that together hold every event of this site that occurred in the time, each '
  'with about most_events events of any type.';

create or replace function audit.decision_events(
  first_recorded timestamptz, last_recorded timestamptz, from_at timestamptz, to_at timestamptz
)
returns table (event_id uuid, occurred_at timestamptz, canonical bytea)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select e.event_id, e.occurred_at, e.canonical
  from audit.seal as s
  left join audit.chain as k on k.chain_id = s.chain_id
  cross join lateral (
    select i.seq, i.event_id, i.occurred_at, i.type, i.canonical
    from audit.event as i
    where i.chain_id = s.chain_id and i.seq between s.first_seq and s.last_seq and i.recorded_at = s.recorded_at
    -- A fence: the times and types below shall not lead to an index over the whole partition.
    offset 0
  ) as e
  where s.recorded_at between first_recorded and last_recorded and k.site is null
    and e.occurred_at >= from_at and e.occurred_at < to_at
    and e.type in ('stream.decision', 'publish.decision')
  order by s.recorded_at, s.chain_id, e.seq
$$;
comment on function audit.decision_events(timestamptz, timestamptz, timestamptz, timestamptz) is
  'Decisions of this site of one page of audit.decision_pages that occurred from from_at (included) to to_at (not '
  'included), as canonical bytes.';

reset role;
