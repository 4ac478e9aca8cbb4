-- Recorded decisions in pages, for `policy replay`, `policy propose` and `policy unused`: whole events, without decoding
-- them in the database, and without reading a partition that has none.
set local role audit_owner;

create function audit.decision_pages(from_at timestamptz, to_at timestamptz, most_events integer)
returns table (first_recorded timestamptz, last_recorded timestamptz, event_count bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with moments as (
    -- A moment is never split between two pages: it may hold several seals.
    select s.recorded_at as moment, sum(s.event_count) as n
    from audit.seal as s
    where s.last_at >= from_at and s.first_at < to_at
    group by s.recorded_at
  ), numbered as (
    select m.moment, m.n, floor((sum(m.n) over (order by m.moment) - m.n) / most_events) as page
    from moments as m
  )
  select min(n.moment), max(n.moment), sum(n.n)::bigint from numbered as n group by n.page order by n.page
$$;
comment on function audit.decision_pages(timestamptz, timestamptz, integer) is
  'Ranges of recorded_at, both ends included, that together hold every event that occurred in the time, each with about most_events events of any type.';

create function audit.decision_events(
  first_recorded timestamptz, last_recorded timestamptz, from_at timestamptz, to_at timestamptz
)
returns table (event_id uuid, occurred_at timestamptz, canonical bytea)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select e.event_id, e.occurred_at, e.canonical
  from audit.event as e
  where e.recorded_at between first_recorded and last_recorded
    and e.occurred_at >= from_at and e.occurred_at < to_at
    and e.type in ('stream.decision', 'publish.decision')
  order by e.recorded_at, e.chain_id, e.seq
$$;
comment on function audit.decision_events(timestamptz, timestamptz, timestamptz, timestamptz) is
  'Decisions of one page of audit.decision_pages that occurred from from_at (included) to to_at (not included), as canonical bytes.';

revoke execute on function audit.decision_pages(timestamptz, timestamptz, integer) from public;
revoke execute on function audit.decision_events(timestamptz, timestamptz, timestamptz, timestamptz) from public;
grant execute on function audit.decision_pages(timestamptz, timestamptz, integer),
  audit.decision_events(timestamptz, timestamptz, timestamptz, timestamptz)
to audit_read, audit_verify;

reset role;
