-- Which agents are logged in at which relay node, so that any node can tell of all.

set local role control_owner;

create table control.agent_login (
  node text not null,
  instance text not null,
  name text not null,
  login jsonb not null,
  links integer not null default 0,
  streams integer not null default 0,
  constraint agent_login_pkey primary key (node, instance, name),
  constraint agent_login_node_fkey foreign key (node) references control.node (name) on delete cascade,
  constraint agent_login_object check (jsonb_typeof(login) = 'object')
);
create index agent_login_name on control.agent_login (name collate "C", instance collate "C");
comment on table control.agent_login is 'Agents logged in at a relay node, as it wrote with its last heartbeat.';
comment on column control.agent_login.login is
  'login_id, since, address, state, build, bundle_sha256, bundle_sequence, credentials and published connections.';
comment on column control.agent_login.links is 'Data links of the agent that this node joins.';
comment on column control.agent_login.streams is 'Streams of the agent over every node, by its own last report.';

grant select, insert, update, delete on control.agent_login to control_relay;

reset role;
