-- What receivers ask for, as all daemons have learned it; replies that no rule knows; and
-- what does not answer (docs/throttling.md, docs/replies.md).

-- The pace of one key. Written by any daemon under the row's lock, not more than a few times a
-- second, without waiting for a disk.
create table postrider.pace(
  key     text primary key,              -- as in throttle_bucket
  state   jsonb not null,                -- throttle/pace.rs
  told_at timestamptz not null default now()
) with (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Replies that no rule knows, by their shape: addresses, hosts, ids and numbers taken out.
create table postrider.unknown_reply(
  stage      text not null,
  code       smallint not null,
  shape      text not null check (length(shape) <= 300),
  count      bigint not null,
  first_seen timestamptz not null default now(),
  last_seen  timestamptz not null default now(),
  sample     text not null check (length(sample) <= 400),   -- without addresses
  primary key (stage, code, shape));
create index unknown_reply_seen on postrider.unknown_reply(last_seen);

-- Hosts and routes that a daemon leaves alone. Unlogged: it is told again.
create unlogged table postrider.breaker(
  session_id bigint not null,
  spot       text not null,              -- host 192.0.2.1:25
  host       text not null,              -- the host's name; '' of a route
  state      text not null,              -- blocked, probing, ramping
  why        text not null,
  domains    text[] not null,            -- recipients' domains that were put back for it lately
  since      timestamptz not null,
  until      timestamptz,
  primary key (session_id, spot));

grant select, insert, update, delete on postrider.pace, postrider.unknown_reply, postrider.breaker
  to postrider_worker;
grant select, delete on postrider.pace, postrider.unknown_reply to postrider_operator;
grant select on postrider.breaker to postrider_operator;
