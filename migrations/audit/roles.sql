-- The roles of the audit schema: none can log in; logins are members of them.
-- Idempotent. `sallyport migrate --no-roles` prints this for a database where somebody else makes roles.
do $roles$
declare
  role_name text;
begin
  foreach role_name in array
    array['audit_owner', 'audit_ingest', 'audit_read', 'audit_verify', 'audit_retention']
  loop
    begin
      execute format('create role %I nologin', role_name);
    exception
      when duplicate_object or unique_violation then null;
    end;
  end loop;
  if not pg_has_role(current_user, 'audit_owner', 'member') then
    execute format('grant audit_owner to %I', current_user);
  end if;
end
$roles$;
