-- Writes what `--control` reads of the control database into the current directory, from one snapshot:
--   mkdir control && cd control && psql "$CONTROL_URL" -X -f ../verifier/export-control.sql
-- Ages are in seconds, by the clock of the database. Each query stands on one line because \copy wants it so.
\set ON_ERROR_STOP on
set client_encoding to 'UTF8';
begin isolation level repeatable read, read only;
\copy (select event_id, extract(epoch from now() - created_at)::bigint, extract(epoch from now() - drained_at)::bigint, event from control.outbox order by id) to 'outbox.copy'
\copy (select kind, thing, label, (extract(epoch from created_at) * 1000)::bigint, extract(epoch from now() - created_at)::bigint from (select 'connection' as kind, id::text as thing, 'connection ' || name as label, created_at from control.connection union all select 'auth_rule', r.id::text, 'auth-rule ' || coalesce(c.name, 'namespace') || '/' || r.name, r.created_at from control.auth_rule as r left join control.connection as c on c.id = r.connection_id union all select 'key', key_id, 'key ' || key_id, created_at from control.key union all select 'token', id, 'token ' || id, created_at from control.token union all select case when key_id is not null then 'revoked_key' when agent is not null then 'revoked_agent' else 'removed_connection' end, coalesce(key_id, case when agent is not null then revocation_id::text end, connection_id::text), 'revocation ' || revocation_id || ' of ' || coalesce('key ' || key_id, 'agent ' || agent, 'connection ' || connection_id), created_at from control.revocation) as things order by created_at, kind, thing) to 'things.copy'
commit;
