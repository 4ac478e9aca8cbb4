-- The control database: namespaces, connections, auth-rules, keys, tokens, revocations, nodes, outbox.

create schema if not exists control;
alter schema control owner to control_owner;
set local role control_owner;

comment on schema control is 'Sallyport: connections, keys, revocations and the outbox of audit events.';

create table control.namespace (
  name text not null,
  created_at timestamptz not null default now(),
  constraint namespace_pkey primary key (name),
  constraint namespace_name_length check (length(name) between 1 and 253)
);
comment on table control.namespace is 'One installation''s address space; its name is the host of connection strings.';

create table control.connection (
  id uuid not null,
  namespace text not null,
  name text not null,
  target_host text not null,
  target_port integer not null,
  labels jsonb not null default '{}'::jsonb,
  version integer not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint connection_pkey primary key (id),
  constraint connection_name_unique unique (namespace, name),
  constraint connection_namespace_fkey foreign key (namespace) references control.namespace (name),
  constraint connection_name_form check (name ~ '^[a-z0-9-]{1,63}$'),
  constraint connection_target_host_length check (length(target_host) between 1 and 253),
  constraint connection_target_port_range check (target_port between 1 and 65535),
  constraint connection_labels_object check (jsonb_typeof(labels) = 'object')
);
comment on table control.connection is 'A named entity that carries exactly one target host:port.';
comment on column control.connection.version is 'Rises by one with each change; the ETag of the management API.';

create table control.auth_rule (
  id uuid not null,
  namespace text not null,
  connection_id uuid,
  name text not null,
  claims text[] not null,
  created_at timestamptz not null default now(),
  constraint auth_rule_pkey primary key (id),
  constraint auth_rule_namespace_fkey foreign key (namespace) references control.namespace (name),
  constraint auth_rule_connection_fkey foreign key (connection_id) references control.connection (id) on delete cascade,
  constraint auth_rule_name_length check (length(name) between 1 and 128),
  constraint auth_rule_claims_known check (
    claims <@ array['Listen', 'Send', 'Manage']::text[] and cardinality(claims) between 1 and 3)
);
create unique index auth_rule_connection_name on control.auth_rule (connection_id, name)
  where connection_id is not null;
create unique index auth_rule_namespace_name on control.auth_rule (namespace, name) where connection_id is null;
comment on table control.auth_rule is 'A SAS authorization rule of a connection, or of the namespace (connection_id null).';

create table control.key (
  key_id text not null,
  auth_rule_id uuid not null,
  slot text not null,
  state text not null default 'active',
  keyring_key text not null,
  sealed bytea not null,
  created_at timestamptz not null default now(),
  retire_at timestamptz,
  constraint key_pkey primary key (key_id),
  constraint key_auth_rule_fkey foreign key (auth_rule_id) references control.auth_rule (id) on delete cascade,
  constraint key_id_form check (key_id ~ '^k_[0-9a-f]{20}$'),
  constraint key_slot_known check (slot in ('primary', 'secondary')),
  constraint key_state_known check (state in ('active', 'retiring', 'revoked')),
  constraint key_retiring_has_time check ((state = 'retiring') <= (retire_at is not null))
);
create unique index key_active_slot on control.key (auth_rule_id, slot) where state = 'active';
create index key_auth_rule on control.key (auth_rule_id);
comment on table control.key is 'SAS keys, encrypted at rest: sealed is nonce, AES-256-GCM ciphertext and tag under keyring_key.';
comment on column control.key.state is 'active; retiring (replaced, good until retire_at); revoked (for ever).';

create table control.token (
  id text not null,
  secret_sha256 bytea not null,
  label text not null,
  role text not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  constraint token_pkey primary key (id),
  constraint token_id_form check (id ~ '^t_[0-9a-f]{16}$'),
  constraint token_role_known check (role in ('owner', 'operator', 'auditor'))
);
comment on table control.token is 'Management tokens; only the SHA-256 of the secret is stored.';

create table control.revocation (
  revocation_id uuid not null,
  namespace text not null,
  key_id text not null,
  kind text not null,
  reason text not null default '',
  connection text,
  connection_id uuid,
  auth_rule text not null,
  slot text not null,
  actor text not null,
  created_at timestamptz not null default now(),
  effective_at timestamptz not null default now(),
  constraint revocation_pkey primary key (revocation_id),
  constraint revocation_namespace_fkey foreign key (namespace) references control.namespace (name),
  constraint revocation_kind_known check (
    kind in ('key_revoked', 'key_rotated', 'auth_rule_removed', 'connection_removed'))
);
create index revocation_key on control.revocation (key_id);
create index revocation_created on control.revocation (created_at desc, revocation_id desc);
comment on table control.revocation is 'Keys that are dead, or die at effective_at. Rows are never updated or deleted: revocation is final.';

create table control.node (
  name text not null,
  instance text not null,
  build text not null default '',
  started_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  left_at timestamptz,
  cut_after_ms bigint,
  constraint node_pkey primary key (name)
);
comment on table control.node is 'Relay nodes and their heartbeat.';
comment on column control.node.cut_after_ms is 'Silence after which the node cuts its links by itself; null: never.';

create table control.revocation_ack (
  revocation_id uuid not null,
  kind text not null,
  name text not null,
  node text not null,
  since timestamptz not null default now(),
  acked_at timestamptz,
  links integer not null default 0,
  streams integer,
  ms double precision,
  constraint revocation_ack_pkey primary key (revocation_id, kind, name, node),
  constraint revocation_ack_revocation_fkey foreign key (revocation_id) references control.revocation (revocation_id),
  constraint revocation_ack_kind_known check (kind in ('node', 'agent'))
);
comment on table control.revocation_ack is 'Who has enforced a revocation, and which agents were told and have not answered (acked_at null).';

create table control.outbox (
  id bigint generated always as identity,
  event_id uuid not null,
  created_at timestamptz not null default now(),
  event jsonb not null,
  drained_at timestamptz,
  constraint outbox_pkey primary key (id),
  constraint outbox_event_unique unique (event_id)
);
create index outbox_undrained on control.outbox (id) where drained_at is null;
comment on table control.outbox is 'Audit events of control-plane changes, written in the transaction of the change, sealed by one node.';

create table control.key_usage (
  key_id text not null,
  source text not null,
  connection text,
  auth_rule text not null,
  slot text not null,
  first_used_at timestamptz not null,
  last_used_at timestamptz not null,
  use_count bigint not null,
  constraint key_usage_pkey primary key (key_id, source)
);
comment on table control.key_usage is 'Last use of each key by observed source; outlives the key and audit retention.';

create function control.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'rows of % are final', tg_table_name using errcode = 'insufficient_privilege';
end
$$;
create trigger revocation_is_final before update or delete on control.revocation
  for each row execute function control.refuse_change();
create trigger revocation_is_never_truncated before truncate on control.revocation
  for each statement execute function control.refuse_change();

-- A relay reads and writes everything but what is final.
revoke all on schema control from public;
grant usage on schema control to control_relay;
grant select, insert, update, delete on
  control.connection, control.auth_rule, control.key, control.token, control.node, control.revocation_ack,
  control.key_usage
to control_relay;
grant select, insert on control.namespace, control.revocation to control_relay;
grant select, insert, update on control.outbox to control_relay;

reset role;
