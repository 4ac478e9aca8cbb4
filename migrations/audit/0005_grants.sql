-- Who may do what. Functions are executable by everybody unless that is taken back.
set local role audit_owner;

revoke all on schema audit from public;
revoke execute on all functions in schema audit from public;

grant usage on schema audit to audit_ingest, audit_read, audit_verify, audit_retention;

grant execute on function audit.append(text[], bytea, bytea, integer[], timestamptz) to audit_ingest;

grant select on
  audit.decisions, audit.denies, audit.streams, audit.active_streams, audit.timeline, audit.key_usage,
  audit.revocations, audit.health
to audit_read, audit_verify;
grant execute on function audit.details(bytea), audit.decisions_between(timestamptz, timestamptz)
to audit_read, audit_verify;

grant select on
  audit.event, audit.event_type, audit.seal, audit.seal_leaves, audit.chain, audit.signer, audit.checkpoint,
  audit.bundle, audit.bundle_rule, audit.retention, audit.upkeep
to audit_verify;
grant select on audit.retention, audit.upkeep to audit_retention;

reset role;
