-- Outbox rows carry the id that their audit event has, are final once written, and go 30 days after their hand-over.

set local role control_owner;

-- Rows handed over by an earlier version have an event under another id: nothing can be compared with them.
delete from control.outbox where drained_at is not null;

create index outbox_drained on control.outbox (drained_at) where drained_at is not null;
comment on column control.outbox.event_id is 'UUIDv7; the id of the audit event, however often the row is handed over.';
comment on column control.outbox.drained_at is
  'When the row was handed to an audit log and was durable there; deleted 30 days later.';

create function control.guard_outbox() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    if old.drained_at is null or old.drained_at > now() - interval '30 days' then
      raise exception 'outbox row % is not 30 days past its hand-over', old.id
        using errcode = 'insufficient_privilege';
    end if;
    return old;
  end if;
  if old.drained_at is not null or new.drained_at is distinct from now() then
    raise exception 'outbox row % is marked once, with the time of its hand-over', old.id
      using errcode = 'insufficient_privilege';
  end if;
  return new;
end
$$;
comment on function control.guard_outbox() is
  'Keeps rows of the outbox until 30 days after their hand-over, and lets only the mark of the hand-over be set.';
create trigger outbox_is_kept before update or delete on control.outbox
  for each row execute function control.guard_outbox();
create trigger outbox_is_never_truncated before truncate on control.outbox
  for each statement execute function control.refuse_change();

revoke update on control.outbox from control_relay;
grant update (drained_at), delete on control.outbox to control_relay;

reset role;
