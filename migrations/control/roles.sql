-- The roles of the control schema: none can log in; a relay's login is a member of control_relay.
-- Idempotent. `sallyport migrate --no-roles` prints this for a database where somebody else makes roles.
do $roles$
declare
  role_name text;
  may_act boolean;
begin
  foreach role_name in array array['control_owner', 'control_relay']
  loop
    begin
      execute format('create role %I nologin', role_name);
    exception
      when duplicate_object or unique_violation then null;
    end;
  end loop;
  -- From PostgreSQL 16 on, who makes a role is its member, but may not act as it.
  if current_setting('server_version_num')::int >= 160000 then
    may_act := pg_has_role(current_user, 'control_owner', 'set');
  else
    may_act := pg_has_role(current_user, 'control_owner', 'member');
  end if;
  if not may_act then
    execute format('grant control_owner to %I', current_user);
  end if;
end
$roles$;
