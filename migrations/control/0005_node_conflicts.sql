-- What two relay nodes must not share: a name between two processes, an address between two nodes.

set local role control_owner;

alter table control.node
  add column public_host text,
  add column public_ports integer[] not null default '{}',
  add column rival text,
  add column rival_seen_at timestamptz;
comment on column control.node.public_host is 'Host that offers name and ends dial, lower case; null: not said.';
comment on column control.node.public_ports is 'Ports that ends dial at public_host.';
comment on column control.node.rival is 'Instance of a live process whose row this was until another took the name; null: none.';
comment on column control.node.rival_seen_at is 'When that process last said so.';

reset role;
