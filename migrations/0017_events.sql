-- Events to tenants: what became of their mail, written in the transaction of its cause, read
-- by a cursor, and delivered to their endpoints (docs/events.md, docs/adr/0028).

-- ---------------------------------------------------------------- who is told
-- Tenants that asked for events, by the API or by making an endpoint. Of others nothing is
-- written.
create table postrider.event_tenant(
  tenant_id bigint primary key references postrider.tenant,
  enabled   boolean not null default true,
  since     timestamptz not null default now(),
  -- How often the tenant was moved to another cell: what came before a move sorts before it.
  moves     int not null default 0 check (moves >= 0));

-- ---------------------------------------------------------------- the log
-- kind: 1 delivered  2 bounced  3 expired  4 suppressed  5 cancelled  6 dead-lettered
--       7 deferred   8 accepted 9 complained 10 unsubscribed 11 endpoint disabled
-- The order is (xid, event_id): by the transaction that wrote it. A reader goes on from its
-- cursor up to the oldest transaction that still runs, so what commits late is not passed
-- over, and the transactions of one delivery follow each other. What a move brings along has a
-- negative xid: the old one less 2^48, so that it stays in order and comes before all that is
-- written here.
create table postrider.event(
  tenant_id  bigint not null,
  xid        bigint not null,
  event_id   bigint not null default postrider.mint_id(),
  kind       smallint not null check (kind between 1 and 11),
  in_doubt   boolean not null default false,
  attempt    smallint,
  code       smallint,
  message_id bigint,
  job_id     bigint,
  next_at    timestamptz,
  address    text,                             -- of events about a recipient and no delivery
  detail     json,                             -- of an attempt: as there
  primary key (tenant_id, xid, event_id)) partition by range (event_id);
create table postrider.event_default partition of postrider.event default;
select postrider.protect('postrider.event_tenant'), postrider.protect('postrider.event'),
       postrider.protect('postrider.event_default');

-- The oldest transaction that may still write: everything before it is final.
create function postrider.event_horizon() returns bigint language sql stable as
$$ select pg_snapshot_xmin(pg_current_snapshot())::text::bigint $$;

-- Days of events, from that of `since` to so many ahead, at most p_most; how many were made. One
-- a transaction beside others, as with the other days (0006).
create function postrider.ensure_event_days(since timestamptz, days_ahead int, p_most int) returns int
language plpgsql security definer set search_path = pg_catalog, postrider set timezone = 'UTC'
  set lock_timeout = '500ms' as $$
declare d date; made int := 0; name text;
begin
  for d in select generate_series(greatest(since, now() - interval '400 days')::date, current_date + days_ahead,
                                  interval '1 day')::date loop
    if made >= p_most then return made; end if;
    name := format('event_%s', to_char(d, 'YYYYMMDD'));
    continue when to_regclass('postrider.' || name) is not null;
    begin
      execute format('create table postrider.%I partition of postrider.event for values from (%s) to (%s)',
        name, postrider.id_floor(d::timestamptz), postrider.id_floor((d + 1)::timestamptz));
      perform postrider.protect(('postrider.' || quote_ident(name))::regclass);
      made := made + 1;
    exception when check_violation or lock_not_available or duplicate_table then null;
    end;
  end loop;
  return made;
end $$;
revoke all on function postrider.ensure_event_days(timestamptz, int, int) from public;
grant execute on function postrider.ensure_event_days(timestamptz, int, int) to postrider_worker, postrider_operator;

-- Drops one day of events that lies wholly before; how many.
create function postrider.drop_event_day(before timestamptz) returns int
language plpgsql security definer set search_path = pg_catalog, postrider set timezone = 'UTC'
  set lock_timeout = '500ms' as $$
declare part text;
begin
  for part in
    select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'postrider.event'::regclass and c.relname ~ '^event_[0-9]{8}$'
      and (to_date(right(c.relname::text, 8), 'YYYYMMDD') + 1)::timestamptz <= before
  loop
    begin
      execute format('drop table postrider.%I', part);
      return 1;
    exception when lock_not_available then null;  -- the next hour tries again
    end;
  end loop;
  return 0;
end $$;
revoke all on function postrider.drop_event_day(timestamptz) from public;
grant execute on function postrider.drop_event_day(timestamptz) to postrider_worker;

select postrider.ensure_event_days(now() - interval '1 day', 7, 1000);

-- ---------------------------------------------------------------- who writes it
-- Once per statement, for all its rows, in its transaction; whoever ends deliveries need not
-- know of it. All writers name the parent tables. What a move copies has been told before.

create function postrider.tell_attempts() returns trigger language plpgsql as $$
declare v_xid bigint;
begin
  if not exists (select 1 from fresh f join postrider.event_tenant e using (tenant_id)) then return null; end if;
  v_xid := pg_current_xact_id()::text::bigint;
  insert into postrider.event(tenant_id, xid, kind, in_doubt, attempt, code, message_id, job_id, next_at, detail)
  select f.tenant_id, v_xid, case f.kind when 8 then 7 else f.kind end, f.in_doubt, f.attempt, f.code,
         f.message_id, f.job_id, f.next_at, f.detail
  from fresh f
  join postrider.event_tenant e using (tenant_id)
  join postrider.tenant t using (tenant_id)
  -- 9 is no attempt: a report that came back, told as the suppression that it leads to.
  where e.enabled and t.residence <> 'arriving' and f.kind <> 9;
  return null;
end $$;
create trigger tell after insert on postrider.attempt
  referencing new table as fresh for each statement execute function postrider.tell_attempts();

-- What the tenant itself put on its list by the API is no news to it.
create function postrider.tell_suppressions() returns trigger language plpgsql as $$
declare v_xid bigint;
begin
  if not exists (select 1 from fresh f join postrider.event_tenant e using (tenant_id)) then return null; end if;
  v_xid := pg_current_xact_id()::text::bigint;
  insert into postrider.event(tenant_id, xid, kind, address, detail)
  select f.tenant_id, v_xid,
         case when f.reason in ('complaint', 'complained') then 9 when f.reason = 'unsubscribed' then 10 else 4 end,
         f.address, json_build_object('reason', f.reason, 'source', f.source)
  from fresh f
  join postrider.event_tenant e using (tenant_id)
  join postrider.tenant t using (tenant_id)
  where e.enabled and t.residence <> 'arriving' and f.source <> 'api';
  return null;
end $$;
create trigger tell after insert on postrider.suppression
  referencing new table as fresh for each statement execute function postrider.tell_suppressions();

-- Accepted: with the message, and with each further part of its recipients.
create function postrider.tell_messages() returns trigger language plpgsql as $$
declare v_xid bigint;
begin
  if not exists (select 1 from fresh f join postrider.event_tenant e using (tenant_id)) then return null; end if;
  v_xid := pg_current_xact_id()::text::bigint;
  insert into postrider.event(tenant_id, xid, kind, message_id, detail)
  select f.tenant_id, v_xid, 8, f.message_id,
         json_build_object('recipients', f.accepted, 'suppressed', f.suppressed)
  from fresh f
  join postrider.event_tenant e using (tenant_id)
  join postrider.tenant t using (tenant_id)
  where e.enabled and t.residence <> 'arriving' and f.accepted + f.suppressed > 0;
  return null;
end $$;
create trigger tell after insert on postrider.message
  referencing new table as fresh for each statement execute function postrider.tell_messages();

create function postrider.tell_recipients() returns trigger language plpgsql as $$
declare v_xid bigint;
begin
  if not exists (select 1 from fresh f join postrider.event_tenant e using (tenant_id)) then return null; end if;
  v_xid := pg_current_xact_id()::text::bigint;
  insert into postrider.event(tenant_id, xid, kind, message_id, detail)
  select f.tenant_id, v_xid, 8, f.message_id,
         json_build_object('recipients', f.accepted - s.accepted, 'suppressed', f.suppressed - s.suppressed)
  from fresh f
  join stale s using (message_id)
  join postrider.event_tenant e on e.tenant_id = f.tenant_id
  join postrider.tenant t on t.tenant_id = f.tenant_id
  where e.enabled and t.residence <> 'arriving' and f.accepted + f.suppressed > s.accepted + s.suppressed;
  return null;
end $$;
create trigger tell_more after update on postrider.message
  referencing old table as stale new table as fresh for each statement execute function postrider.tell_recipients();

-- ---------------------------------------------------------------- endpoints
-- A reader of the log: its place in it, how it stands, and who reads for it now.
create table postrider.webhook(
  webhook_id    bigint primary key default postrider.mint_id(),
  tenant_id     bigint not null references postrider.tenant,
  url           text not null check (octet_length(url) <= 2000),
  description   text not null default '',
  kinds         smallint[],                    -- null: all
  batch         int not null default 1 check (batch between 1 and 1000),
  in_flight     int not null check (in_flight between 1 and 64),
  per_second    int check (per_second between 1 and 10000),   -- requests; null: as fast as it answers
  state         text not null default 'active' check (state in ('active', 'disabled')),
  disabled_by   text check (disabled_by in ('tenant', 'operator', 'failing', 'gone')),
  disabled_at   timestamptz,
  created_at    timestamptz not null default now(),
  at_xid        bigint not null,               -- told up to here
  at_event      bigint not null,
  failures      int not null default 0,        -- in a row, with nothing taken in between
  failing_since timestamptz,
  last_error    text,
  last_taken_at timestamptz,
  next_at       timestamptz not null default now(),
  holder        bigint,                        -- the session that reads for it
  held_until    timestamptz,
  hold          int not null default 0,        -- how often it was taken: the fence
  check ((state = 'disabled') = (disabled_by is not null))) with (fillfactor = 50);
create index webhook_tenant on postrider.webhook(tenant_id, webhook_id);

-- Its secrets, sealed. The one without an end is shown to nobody again; those before it
-- sign too until they retire.
create table postrider.webhook_secret(
  tenant_id  bigint not null,
  webhook_id bigint not null references postrider.webhook on delete cascade,
  secret_id  bigint not null default postrider.mint_id(),
  sealed     bytea not null,
  created_at timestamptz not null default now(),
  retire_at  timestamptz,
  primary key (webhook_id, secret_id));

-- Events that an endpoint refused while it took others. What follows for the same delivery
-- waits behind.
create table postrider.webhook_retry(
  tenant_id  bigint not null,
  webhook_id bigint not null references postrider.webhook on delete cascade,
  xid        bigint not null,
  event_id   bigint not null,
  job_id     bigint,
  tries      int not null,
  since      timestamptz not null default now(),
  due_at     timestamptz not null,
  primary key (webhook_id, xid, event_id));
create index webhook_retry_due on postrider.webhook_retry(webhook_id, due_at);
create index webhook_retry_job on postrider.webhook_retry(webhook_id, job_id);

select postrider.protect(t::regclass), postrider.keep_small(t::regclass, 'small') from unnest(array[
  'postrider.webhook', 'postrider.webhook_secret', 'postrider.webhook_retry']) t;

do $$
declare t text;
begin
  foreach t in array array['event_tenant', 'webhook', 'webhook_secret'] loop
    execute format('create trigger refuse_on_the_move before insert or update or delete on postrider.%I
      for each statement execute function postrider.refuse_on_the_move()', t);
  end loop;
end $$;

-- ---------------------------------------------------------------- rights
grant select, insert on postrider.event to postrider_api;
grant select, insert, delete on postrider.event to postrider_worker, postrider_operator;
grant select on postrider.event_default to postrider_worker;
grant select, insert, update on postrider.event_tenant to postrider_api;
grant select on postrider.event_tenant to postrider_worker;
grant select, insert, update, delete on postrider.event_tenant to postrider_operator;
grant select, insert, update, delete on postrider.webhook, postrider.webhook_secret, postrider.webhook_retry
  to postrider_api, postrider_operator;
grant select, update on postrider.webhook to postrider_worker;
grant select on postrider.webhook_secret to postrider_worker;
grant select, insert, update, delete on postrider.webhook_retry to postrider_worker;
