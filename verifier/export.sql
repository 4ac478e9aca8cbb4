-- Writes what the verifier reads into the current directory, from one snapshot, with psql alone:
--   mkdir dump && cd dump && psql "$DATABASE_URL" -X -f ../verifier/export.sql
-- The verifier runs the same six queries when it reads a database; each stands on one line because \copy wants it so.
\set ON_ERROR_STOP on
set client_encoding to 'UTF8';
set timezone to 'UTC';
set datestyle to 'ISO';
set bytea_output to 'hex';
set extra_float_digits to 1;
begin isolation level repeatable read, read only;
\copy (select chain_id, last_batch, last_seq, head, final, events, dropped, site from audit.chain order by chain_id) to 'chains.copy'
\copy (select chain_id, batch_no, recorded_at, canonical, signature, first_seq, last_seq, event_count, dropped, root, seal, prev_seal, prev_chain, signer, sealed_at, epoch, final, first_at, last_at from audit.seal order by chain_id, batch_no) to 'seals.copy'
\copy (select chain_id, batch_no, recorded_at, leaves from audit.seal_leaves order by chain_id, batch_no, recorded_at) to 'leaves.copy'
\copy (select chain_id, seq, recorded_at, canonical, event_id, occurred_at, schema_version, type, class_uid, activity_id, action, disposition, severity, origin, namespace, agent, local_at, agent_zone, relay, gateway, connection, connection_id, principal, auth_rule, key_id, key_slot, key_kind, identity_id, proved_by, listener_principal, listener_key_id, stream_id, stream_no, stream_kind, attempt, link_id, carrier, own_spki, peer_spki, login_id, site, client_addr, client_port, source_addr, target_host, target_addr, target_port, decided_by, policy_rule, array_to_json(policy_rules) as policy_rules, array_to_json(reasons) as reasons, close_reason, bundle_revision, bundle_sequence, bundle_sha256, managed_sha256, shadow, eval_us, dial_ms, bytes_up, bytes_down, duration_ms, actor, projection_error from audit.event order by chain_id, seq, recorded_at) to 'events.copy'
\copy (select retention_id, before, array_to_json(partitions) as partitions, signer, signature, canonical from audit.retention order by retained_at, retention_id) to 'retention.copy'
\copy (select checkpoint_id, series, number, made_at, signer, signature, canonical from audit.checkpoint order by checkpoint_id) to 'checkpoints.copy'
commit;
