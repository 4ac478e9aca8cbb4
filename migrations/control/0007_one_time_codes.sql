-- One-time codes: what `sallyport init` prints instead of a token that works for ever.

set local role control_owner;

alter table control.token
  add column one_time boolean not null default false,
  drop constraint token_id_form,
  add constraint token_id_form check (id ~ '^[tc]_[0-9a-f]{16}$'),
  add constraint token_one_time_expires check (not one_time or (expires_at is not null and id ~ '^c_'));
comment on column control.token.one_time is
  'A code: good for one exchange into a token of its role, until expires_at, and for nothing else.';

reset role;
