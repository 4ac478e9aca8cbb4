-- Auth-rules have a version, so that of two who rotate or delete one the second can be told.

set local role control_owner;

alter table control.auth_rule add column version integer not null default 1;
comment on column control.auth_rule.version is 'Rises by one with each rotation; the ETag of the management API.';

reset role;
