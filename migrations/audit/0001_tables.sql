-- Evidence: events, their leaves and seals, and what is known of chains and signers.
create schema if not exists audit;
alter schema audit owner to audit_owner;
comment on schema audit is 'Signed, hash-chained audit of Sallyport. Written by audit.append only.';
set local role audit_owner;

create table audit.event_type (
  type text constraint event_type_pkey primary key,
  class_uid integer not null,
  activity_id integer not null,
  severity integer not null,
  action text not null,
  disposition text not null
);
comment on table audit.event_type is 'The closed union of event types with their OCSF classes.';
comment on column audit.event_type.type is 'Event type.';
comment on column audit.event_type.class_uid is 'OCSF class.';
comment on column audit.event_type.activity_id is 'OCSF activity.';
comment on column audit.event_type.severity is 'OCSF severity.';
comment on column audit.event_type.action is 'Action of an event that holds no verdict of its own.';
comment on column audit.event_type.disposition is 'Disposition of an event that holds no verdict of its own.';
insert into audit.event_type (type, class_uid, activity_id, severity, action, disposition) values
  ('agent.started', 6002, 3, 1, 'observed', 'logged'),
  ('agent.stopped', 6002, 4, 1, 'observed', 'logged'),
  ('agent.clock_step', 6002, 99, 3, 'observed', 'logged'),
  ('link.opened', 4001, 1, 1, 'observed', 'logged'),
  ('link.closed', 4001, 2, 1, 'observed', 'logged'),
  ('link.refused', 4001, 5, 2, 'denied', 'blocked'),
  ('publish.decision', 3005, 1, 1, 'observed', 'logged'),
  ('unpublish', 3005, 2, 1, 'observed', 'logged'),
  ('stream.decision', 4001, 1, 1, 'observed', 'logged'),
  ('stream.close', 4001, 2, 1, 'observed', 'logged'),
  ('stream.refused', 4001, 5, 2, 'denied', 'blocked'),
  ('stream.resumed', 4001, 99, 1, 'observed', 'logged'),
  ('auth.failed', 3002, 1, 3, 'denied', 'blocked'),
  ('login.opened', 3002, 1, 1, 'observed', 'logged'),
  ('login.renewed', 3002, 99, 1, 'observed', 'logged'),
  ('login.closed', 3002, 2, 1, 'observed', 'logged'),
  ('key.created', 3001, 1, 1, 'modified', 'logged'),
  ('key.rotated', 3001, 99, 2, 'modified', 'logged'),
  ('key.disclosed', 3001, 99, 3, 'observed', 'logged'),
  ('key.revoked', 3001, 5, 3, 'modified', 'logged'),
  ('revocation.enforced', 3001, 5, 2, 'modified', 'logged'),
  ('auth_rule.changed', 3005, 99, 2, 'modified', 'logged'),
  ('connection.created', 6003, 1, 1, 'modified', 'logged'),
  ('connection.changed', 6003, 3, 2, 'modified', 'logged'),
  ('connection.deleted', 6003, 4, 2, 'modified', 'logged'),
  ('enrolment.created', 3001, 1, 1, 'modified', 'logged'),
  ('enrolment.used', 3001, 2, 2, 'modified', 'logged'),
  ('enrolment.refused', 3001, 99, 3, 'denied', 'blocked'),
  ('identity.revoked', 3001, 5, 3, 'modified', 'logged'),
  ('bundle.activated', 5019, 1, 2, 'modified', 'logged'),
  ('bundle.held', 5019, 99, 3, 'observed', 'logged'),
  ('bundle.rejected', 5019, 99, 4, 'denied', 'blocked'),
  ('policy.shadow', 3005, 99, 1, 'observed', 'logged'),
  ('policy.error', 3005, 99, 4, 'observed', 'error'),
  ('managed.changed', 5019, 1, 3, 'modified', 'logged'),
  ('managed.refused', 5019, 99, 4, 'denied', 'blocked'),
  ('audit.gap', 6002, 99, 4, 'observed', 'error'),
  ('audit.chain_break', 6002, 99, 3, 'observed', 'error'),
  ('audit.heartbeat', 6002, 99, 1, 'observed', 'logged'),
  ('audit.retained', 6003, 4, 3, 'modified', 'logged'),
  ('audit.exported', 6003, 2, 2, 'observed', 'logged'),
  ('signer.added', 3001, 1, 3, 'modified', 'logged'),
  ('signer.rotated', 3001, 99, 3, 'modified', 'logged'),
  ('admin.action', 6003, 99, 2, 'modified', 'logged');

create table audit.event (
  recorded_at timestamptz not null,
  chain_id uuid not null,
  seq bigint not null,
  event_id uuid,
  occurred_at timestamptz,
  clock_skew_ms integer,
  schema_version integer,
  type text,
  class_uid integer,
  activity_id integer,
  action text,
  disposition text,
  severity integer,
  origin text,
  namespace text,
  agent text,
  local_at timestamp,
  agent_zone text,
  relay text,
  gateway text,
  connection text,
  connection_id text,
  principal text,
  auth_rule text,
  key_id text,
  key_slot text,
  key_kind text,
  identity_id text,
  proved_by text,
  listener_principal text,
  listener_key_id text,
  stream_id uuid,
  stream_no bigint,
  stream_kind text,
  attempt integer,
  link_id uuid,
  carrier text,
  own_spki text,
  peer_spki text,
  login_id text,
  site text,
  client_addr inet,
  client_port integer,
  source_addr inet,
  target_host text,
  target_addr inet,
  target_port integer,
  decided_by text,
  policy_rule text,
  policy_rules text[],
  reasons text[],
  close_reason text,
  bundle_revision text,
  bundle_sequence bigint,
  bundle_sha256 text,
  managed_sha256 text,
  shadow boolean,
  eval_us double precision,
  dial_ms double precision,
  bytes_up bigint,
  bytes_down bigint,
  duration_ms double precision,
  actor text,
  projection_error text,
  canonical bytea not null,
  constraint event_pkey primary key (chain_id, seq, recorded_at)
) partition by range (recorded_at);
comment on table audit.event is 'One row per event. The canonical bytes are the evidence; every other column is derived from them.';
comment on column audit.event.recorded_at is 'When the database stored the seal''s batch; the same for all of its events. Partition key, not evidence.';
comment on column audit.event.chain_id is 'Chain of the writer; with seq, the identity of the event.';
comment on column audit.event.seq is 'Position in the chain, from 1, without gaps.';
comment on column audit.event.event_id is 'UUIDv7 of the event, from its canonical bytes.';
comment on column audit.event.occurred_at is 'When it happened, by the writer''s clock.';
comment on column audit.event.clock_skew_ms is 'Writer''s clock minus the database''s when the batch arrived, in milliseconds; network time included.';
comment on column audit.event.schema_version is 'Version of the envelope.';
comment on column audit.event.type is 'Event type, one of audit.event_type.';
comment on column audit.event.class_uid is 'OCSF class.';
comment on column audit.event.activity_id is 'OCSF activity.';
comment on column audit.event.action is 'allowed, denied, modified or observed.';
comment on column audit.event.disposition is 'allowed, blocked, error or logged.';
comment on column audit.event.severity is 'OCSF severity: 1 informational to 5 critical.';
comment on column audit.event.origin is 'Writer of the chain: kind/name.';
comment on column audit.event.namespace is 'Namespace of the installation.';
comment on column audit.event.agent is 'Agent concerned; the writer itself when it is one.';
comment on column audit.event.local_at is 'Time of day at the agent''s place.';
comment on column audit.event.agent_zone is 'IANA time zone of the agent''s place.';
comment on column audit.event.relay is 'Relay node concerned; the writer itself when it is one.';
comment on column audit.event.gateway is 'Gateway concerned, as it names itself.';
comment on column audit.event.connection is 'Connection name.';
comment on column audit.event.connection_id is 'Connection id, stable over renaming.';
comment on column audit.event.principal is 'Who the sender''s credential stands for, stable over key rotation.';
comment on column audit.event.auth_rule is 'SAS authorization rule of the sender''s key.';
comment on column audit.event.key_id is 'Public id of the sender''s key.';
comment on column audit.event.key_slot is 'primary or secondary.';
comment on column audit.event.key_kind is 'sas, identity or jwt.';
comment on column audit.event.identity_id is 'Enrolled identity.';
comment on column audit.event.proved_by is 'Who proved the key: relay or agent.';
comment on column audit.event.listener_principal is 'Principal of the agent''s credential.';
comment on column audit.event.listener_key_id is 'Key id of the agent''s credential.';
comment on column audit.event.stream_id is 'Stream, the same id on every side.';
comment on column audit.event.stream_no is 'Number of the stream within its link.';
comment on column audit.event.stream_kind is 'Kind of the stream, tcp.';
comment on column audit.event.attempt is 'Which attempt of the gateway to open this stream.';
comment on column audit.event.link_id is 'Data link, the same id at relay and agent.';
comment on column audit.event.carrier is 'Carrier of the link.';
comment on column audit.event.own_spki is 'Fingerprint of the writer''s own end of the link''s TLS.';
comment on column audit.event.peer_spki is 'Fingerprint of the other end of the link''s TLS.';
comment on column audit.event.login_id is 'Control login.';
comment on column audit.event.site is 'Site that the event was imported from; null for events written here.';
comment on column audit.event.client_addr is 'Client that the gateway names; a claim.';
comment on column audit.event.client_port is 'Port of that client; a claim.';
comment on column audit.event.source_addr is 'Address that the relay saw the gateway or caller come from.';
comment on column audit.event.target_host is 'Host name of the target.';
comment on column audit.event.target_addr is 'Address that was dialled.';
comment on column audit.event.target_port is 'Port of the target.';
comment on column audit.event.decided_by is 'managed, guard, policy, engine, limit or audit.';
comment on column audit.event.policy_rule is 'First stream rule that allowed it.';
comment on column audit.event.policy_rules is 'All rules that matched, publish rules first.';
comment on column audit.event.reasons is 'Reason codes of the decision.';
comment on column audit.event.close_reason is 'Close reason of a stream, link or denial.';
comment on column audit.event.bundle_revision is 'Revision of the policy bundle that decided.';
comment on column audit.event.bundle_sequence is 'Sequence of that bundle.';
comment on column audit.event.bundle_sha256 is 'Digest of that bundle.';
comment on column audit.event.managed_sha256 is 'Digest of the managed settings in force.';
comment on column audit.event.shadow is 'Evaluated beside the active bundle, not enforced.';
comment on column audit.event.eval_us is 'Evaluation time in microseconds.';
comment on column audit.event.dial_ms is 'Time to reach the target in milliseconds.';
comment on column audit.event.bytes_up is 'Payload bytes from gateway to agent.';
comment on column audit.event.bytes_down is 'Payload bytes from agent to gateway.';
comment on column audit.event.duration_ms is 'Duration in milliseconds.';
comment on column audit.event.actor is 'Who asked for a change.';
comment on column audit.event.projection_error is 'Names of members that did not fit their columns, or the SQLSTATE that kept all of them out.';
comment on column audit.event.canonical is 'The event: RFC 8785 bytes, hashed into the chain.';

do $compression$
begin
  alter table audit.event alter column canonical set compression lz4;
exception
  when feature_not_supported then null;
end
$compression$;

create index event_recorded_at_brin on audit.event using brin (recorded_at);
create index event_event_id on audit.event (event_id);
create index event_connection on audit.event (connection, occurred_at);
create index event_principal on audit.event (principal, occurred_at);
create index event_key_id on audit.event (key_id, occurred_at);
create index event_target_host on audit.event (target_host, occurred_at);
create index event_stream_id on audit.event (stream_id) where stream_id is not null;
create index event_denied on audit.event (occurred_at) where action = 'denied';

create table audit.seal (
  chain_id uuid not null,
  batch_no bigint not null,
  first_seq bigint not null,
  last_seq bigint not null,
  event_count integer not null,
  dropped bigint not null,
  root bytea not null,
  seal bytea not null,
  prev_seal bytea,
  prev_chain uuid,
  signer text not null,
  signature bytea not null,
  sealed_at timestamptz not null,
  epoch bigint not null,
  final boolean not null,
  canonical bytea not null,
  recorded_at timestamptz not null,
  first_at timestamptz,
  last_at timestamptz,
  constraint seal_pkey primary key (chain_id, batch_no),
  constraint seal_first_seq_key unique (chain_id, first_seq),
  constraint seal_prev_seal_key unique (chain_id, prev_seal)
);
comment on table audit.seal is 'One row per sealed batch. canonical is the evidence; the other columns are derived from it.';
comment on column audit.seal.chain_id is 'Chain of the batch.';
comment on column audit.seal.batch_no is 'Number of the batch in its chain, from 1, without gaps.';
comment on column audit.seal.first_seq is 'Sequence number of the first event.';
comment on column audit.seal.last_seq is 'Sequence number of the last event; one less than first_seq in an empty final batch.';
comment on column audit.seal.event_count is 'Count of events.';
comment on column audit.seal.dropped is 'Close events dropped since the previous seal, before they had a number.';
comment on column audit.seal.root is 'Merkle root over the leaves (RFC 6962).';
comment on column audit.seal.seal is 'Digest of this seal: SHA-256 over a tag and the canonical bytes.';
comment on column audit.seal.prev_seal is 'Digest of the previous seal; in batch 1 that of the previous chain''s last seal, if any.';
comment on column audit.seal.prev_chain is 'In batch 1, the chain that this one continues.';
comment on column audit.seal.signer is 'Id of the audit key that signed.';
comment on column audit.seal.signature is 'Ed25519 signature over the digest.';
comment on column audit.seal.sealed_at is 'When it was sealed, by the writer''s clock.';
comment on column audit.seal.epoch is 'Boot epoch of the writer.';
comment on column audit.seal.final is 'No batch follows in this chain.';
comment on column audit.seal.canonical is 'RFC 8785 bytes of the seal.';
comment on column audit.seal.recorded_at is 'When the database stored it; its events and leaves have the same.';
comment on column audit.seal.first_at is 'Earliest occurred_at of its events.';
comment on column audit.seal.last_at is 'Latest occurred_at of its events.';
create index seal_last_at on audit.seal (last_at);

create table audit.seal_leaves (
  recorded_at timestamptz not null,
  chain_id uuid not null,
  batch_no bigint not null,
  leaves bytea not null,
  constraint seal_leaves_pkey primary key (chain_id, batch_no, recorded_at)
) partition by range (recorded_at);
comment on table audit.seal_leaves is 'Leaf hashes of each batch, so that a rewritten or missing event can be named.';
comment on column audit.seal_leaves.recorded_at is 'Partition key, as in audit.seal.';
comment on column audit.seal_leaves.chain_id is 'Chain of the batch.';
comment on column audit.seal_leaves.batch_no is 'Number of the batch.';
comment on column audit.seal_leaves.leaves is 'Leaf hashes in order, 32 bytes each.';

create table audit.chain (
  chain_id uuid,
  owner name not null,
  origin_kind text,
  origin_name text,
  origin_instance text,
  namespace text,
  version text,
  zone text,
  signer text not null,
  epoch bigint not null,
  prev_chain uuid,
  opened_at timestamptz not null,
  last_recorded_at timestamptz not null,
  last_sealed_at timestamptz not null,
  last_batch bigint not null,
  last_seq bigint not null,
  head bytea,
  final boolean not null,
  events bigint not null,
  dropped bigint not null,
  fork_alarms integer not null,
  last_alarm_at timestamptz,
  constraint chain_pkey primary key (chain_id)
);
comment on table audit.chain is 'One row per chain: who may append to it and where it stands. Kept by audit.append.';
comment on column audit.chain.chain_id is 'Chain.';
comment on column audit.chain.owner is 'Login that opened the chain; only it may append.';
comment on column audit.chain.origin_kind is 'agent or relay.';
comment on column audit.chain.origin_name is 'Name of the writer.';
comment on column audit.chain.origin_instance is 'Instance of the writer.';
comment on column audit.chain.namespace is 'Namespace of the installation.';
comment on column audit.chain.version is 'Version of the writer.';
comment on column audit.chain.zone is 'IANA time zone of the writer''s place.';
comment on column audit.chain.signer is 'Audit key of the last seal.';
comment on column audit.chain.epoch is 'Boot epoch of the writer.';
comment on column audit.chain.prev_chain is 'Chain that this one continues.';
comment on column audit.chain.opened_at is 'When the database stored the first batch.';
comment on column audit.chain.last_recorded_at is 'When the database stored the last batch.';
comment on column audit.chain.last_sealed_at is 'When the writer sealed it.';
comment on column audit.chain.last_batch is 'Number of the last batch.';
comment on column audit.chain.last_seq is 'Sequence number of the last event.';
comment on column audit.chain.head is 'Digest of the last seal.';
comment on column audit.chain.final is 'The chain was ended by its writer.';
comment on column audit.chain.events is 'Count of events.';
comment on column audit.chain.dropped is 'Close events dropped.';
comment on column audit.chain.fork_alarms is 'How often another seal came for a place that was taken.';
comment on column audit.chain.last_alarm_at is 'When that was last.';

create table audit.signer (
  signer text,
  origin_kind text,
  origin_name text,
  first_seen_at timestamptz not null,
  last_seen_at timestamptz not null,
  constraint signer_pkey primary key (signer)
);
comment on table audit.signer is 'Audit keys seen in seals. Whether to believe one is said by the trust file, not here.';
comment on column audit.signer.signer is 'Id of the audit key.';
comment on column audit.signer.origin_kind is 'agent or relay.';
comment on column audit.signer.origin_name is 'Name of the writer that used it first.';
comment on column audit.signer.first_seen_at is 'When it first sealed.';
comment on column audit.signer.last_seen_at is 'When it last opened a chain.';

create table audit.checkpoint (
  checkpoint_id uuid,
  made_at timestamptz not null,
  signer text not null,
  signature bytea not null,
  canonical bytea not null,
  constraint checkpoint_pkey primary key (checkpoint_id)
);
comment on table audit.checkpoint is 'Signed statements over the heads of all chains at one moment.';
comment on column audit.checkpoint.checkpoint_id is 'UUIDv7 of the checkpoint.';
comment on column audit.checkpoint.made_at is 'When it was made.';
comment on column audit.checkpoint.signer is 'Audit key that signed it.';
comment on column audit.checkpoint.signature is 'Ed25519 signature.';
comment on column audit.checkpoint.canonical is 'RFC 8785 bytes: the heads.';

create table audit.bundle (
  sha256 text,
  revision text,
  sequence bigint,
  first_seen_at timestamptz not null,
  content bytea not null,
  constraint bundle_pkey primary key (sha256)
);
comment on table audit.bundle is 'Policy bundles that decided, kept to decide again.';
comment on column audit.bundle.sha256 is 'Digest of the bundle file.';
comment on column audit.bundle.revision is 'Revision in its manifest.';
comment on column audit.bundle.sequence is 'Sequence in its manifest.';
comment on column audit.bundle.first_seen_at is 'When it was stored.';
comment on column audit.bundle.content is 'The bundle file.';

create table audit.bundle_rule (
  bundle_sha256 text not null,
  rule_id text not null,
  action text not null,
  connection text,
  title text,
  owner text,
  ticket text,
  expires text,
  location text,
  constraint bundle_rule_pkey primary key (bundle_sha256, rule_id, action)
);
comment on table audit.bundle_rule is 'Catalog of the rules in each bundle.';
comment on column audit.bundle_rule.bundle_sha256 is 'Bundle.';
comment on column audit.bundle_rule.rule_id is 'Id of the rule.';
comment on column audit.bundle_rule.action is 'publish, stream, limits or deny.';
comment on column audit.bundle_rule.connection is 'Connection that the rule is about.';
comment on column audit.bundle_rule.title is 'Title of the rule.';
comment on column audit.bundle_rule.owner is 'Owner of the rule.';
comment on column audit.bundle_rule.ticket is 'Ticket of the rule.';
comment on column audit.bundle_rule.expires is 'First instant that it no longer allows, or never.';
comment on column audit.bundle_rule.location is 'File and line.';

create table audit.retention (
  retention_id uuid,
  retained_at timestamptz not null,
  before timestamptz not null,
  partitions text[] not null,
  signer text not null,
  signature bytea not null,
  canonical bytea not null,
  constraint retention_pkey primary key (retention_id)
);
comment on table audit.retention is 'What was detached, by whose signed request.';
comment on column audit.retention.retention_id is 'UUIDv7 of the request.';
comment on column audit.retention.retained_at is 'When the partitions were detached.';
comment on column audit.retention.before is 'Everything recorded before this was meant.';
comment on column audit.retention.partitions is 'Partitions detached.';
comment on column audit.retention.signer is 'Operator key that signed the request.';
comment on column audit.retention.signature is 'Ed25519 signature.';
comment on column audit.retention.canonical is 'RFC 8785 bytes of the request.';

create table audit.upkeep (
  one_row boolean,
  partitions_at timestamptz,
  partitions_error text,
  constraint upkeep_pkey primary key (one_row),
  constraint upkeep_one_row_check check (one_row)
);
comment on table audit.upkeep is 'When partitions were last looked after; one row.';
comment on column audit.upkeep.one_row is 'Always true.';
comment on column audit.upkeep.partitions_at is 'When audit.ensure_partitions last ran from audit.append.';
comment on column audit.upkeep.partitions_error is 'Why it could not make some partition.';
insert into audit.upkeep (one_row) values (true);

reset role;
