-- What a revocation ends besides a key: an agent by its name, or a connection as a whole.

set local role control_owner;

alter table control.revocation
  alter column key_id drop not null,
  alter column auth_rule drop not null,
  alter column slot drop not null,
  add column agent text,
  add column instance text,
  drop constraint revocation_kind_known,
  add constraint revocation_kind_known check (
    kind in ('key_revoked', 'key_rotated', 'auth_rule_removed', 'connection_removed', 'identity_revoked')),
  add constraint revocation_subject check (case
    when key_id is not null then agent is null and auth_rule is not null and slot is not null
    when agent is not null then kind = 'identity_revoked' and connection_id is null
    else kind = 'connection_removed' and connection_id is not null end),
  add constraint revocation_instance_of_agent check (instance is null or agent is not null);
create index revocation_agent on control.revocation (agent) where agent is not null;
comment on table control.revocation is
  'Keys, agents and connections that are dead, or die at effective_at. Rows are never updated or deleted: revocation is final.';
comment on column control.revocation.key_id is 'The key that is dead; null when the row is about an agent or a connection.';
comment on column control.revocation.agent is 'The agent that is dead, by the name that it claims at its login.';
comment on column control.revocation.instance is 'Of the agent, the one installation that is dead; null: every one.';
comment on column control.revocation.connection_id is
  'The connection of the key; of a row without key and agent, the connection that is dead.';

reset role;
