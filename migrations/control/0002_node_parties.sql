-- Who is linked at each relay node, so that a new node knows whom it has to wait for before it is ready.

set local role control_owner;

alter table control.node
  add column agents integer not null default 0,
  add column gateways integer not null default 0;
comment on column control.node.agents is 'Agents that publish something at this node, at its last heartbeat.';
comment on column control.node.gateways is 'Gateways logged in at this node, at its last heartbeat.';

reset role;
