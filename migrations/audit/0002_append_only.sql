-- Nothing is updated, deleted or truncated, by anybody: triggers say so on parents and on each partition,
-- because a parent's trigger does not stop TRUNCATE of a partition.
set local role audit_owner;

create function audit.refuse_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '%.% is append-only: % refused', tg_table_schema, tg_table_name, lower(tg_op)
    using errcode = 'insufficient_privilege';
end
$$;
comment on function audit.refuse_change() is 'Trigger that refuses update, delete and truncate.';

create trigger append_only before update or delete or truncate on audit.event
  for each statement execute function audit.refuse_change();
create trigger append_only before update or delete or truncate on audit.seal_leaves
  for each statement execute function audit.refuse_change();
create trigger append_only before update or delete or truncate on audit.seal
  for each statement execute function audit.refuse_change();
create trigger append_only before update or delete or truncate on audit.checkpoint
  for each statement execute function audit.refuse_change();
create trigger append_only before update or delete or truncate on audit.bundle
  for each statement execute function audit.refuse_change();
create trigger append_only before update or delete or truncate on audit.bundle_rule
  for each statement execute function audit.refuse_change();
create trigger append_only before update or delete or truncate on audit.retention
  for each statement execute function audit.refuse_change();

create table audit.event_default partition of audit.event default;
comment on table audit.event_default is 'Net for days without a partition; rows here are shown by audit.health.';
create trigger append_only before update or delete or truncate on audit.event_default
  for each statement execute function audit.refuse_change();
create table audit.seal_leaves_default partition of audit.seal_leaves default;
comment on table audit.seal_leaves_default is 'Net for days without a partition.';
create trigger append_only before update or delete or truncate on audit.seal_leaves_default
  for each statement execute function audit.refuse_change();

create function audit.ensure_partitions(days_ahead integer default 14) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  parent text;
  day date;
  partition_name text;
  failures text := null;
begin
  foreach parent in array array['event', 'seal_leaves'] loop
    for day in
      select (now() at time zone 'UTC')::date + n from generate_series(0, days_ahead) as n
    loop
      partition_name := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
      if to_regclass(format('audit.%I', partition_name)) is null then
        begin
          execute format(
            'create table audit.%I partition of audit.%I for values from (%L) to (%L)',
            partition_name, parent, day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
          execute format(
            'create trigger append_only before update or delete or truncate on audit.%I '
            'for each statement execute function audit.refuse_change()', partition_name);
          execute format('comment on table audit.%I is %L', partition_name, 'Rows recorded on ' || day || ' (UTC).');
        exception
          -- The default partition already holds rows of that day, or a lock is held: the net goes on.
          when check_violation or lock_not_available or deadlock_detected or duplicate_table then
            failures := concat_ws('; ', failures, partition_name || ': ' || sqlerrm);
        end;
      end if;
    end loop;
  end loop;
  return failures;
end
$$;
comment on function audit.ensure_partitions(integer) is
  'Makes daily partitions from today on; returns what could not be made, or null. Runs hourly from audit.append.';

select audit.ensure_partitions();

reset role;
