-- What operators did: appended with the action itself, in its transaction, and never changed.
create table postrider.operator_action(
  action_id bigint generated always as identity primary key,
  at        timestamptz not null default now(),
  login     name not null default session_user,   -- who the database knows
  actor     text not null,                        -- who they say they are
  action    text not null,                        -- 'throttle set', 'queue pause', ...
  target    text not null,                        -- what it was done to, as written on the command line
  reason    text,
  detail    json);
create index operator_action_at on postrider.operator_action(at);

grant select, insert on postrider.operator_action to postrider_operator;
grant usage on sequence postrider.operator_action_action_id_seq to postrider_operator;
