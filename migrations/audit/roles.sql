-- The roles of the audit schema: none can log in; logins are members of them.
-- Idempotent. `sallyport migrate --no-roles` prints this for a database where somebody else makes roles.
do $roles$
declare
  role_name text;
  may_act boolean;
begin
  foreach role_name in array
    array['audit_owner', 'audit_ingest', 'audit_import', 'audit_read', 'audit_verify', 'audit_retention']
  loop
    begin
      execute format('create role %I nologin', role_name);
    exception
      when duplicate_object or unique_violation then null;
    end;
  end loop;
  -- From PostgreSQL 16 on, who makes a role is its member, but may not act as it.
  if current_setting('server_version_num')::int >= 160000 then
    may_act := pg_has_role(current_user, 'audit_owner', 'set');
  else
    may_act := pg_has_role(current_user, 'audit_owner', 'member');
  end if;
  if not may_act then
    execute format('grant audit_owner to %I', current_user);
  end if;
end
$roles$;
