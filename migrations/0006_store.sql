-- The store stays flat with ten million rows waiting, and blocked work costs nothing.
-- docs/adr/0010-parked-rows-and-windows.md has the reasons.

-- ---------------------------------------------------------------- vacuum
-- How a table is kept small, by the way it is used. Partitions that are made later get
-- theirs from the functions that make them.
--   queue  rows come and go by the thousand: an absolute number of dead rows starts the
--          vacuum, at full speed, and nothing waits for its lock at the end
--   small  a few rows that change all the time: vacuumed early, so that they stay in a
--          few pages that every look reads
--   slow   rows that are deleted long after they came: a small share of the table
create function postrider.keep_small(t regclass, habit text) returns void language plpgsql as $$
begin
  execute format('alter table %s set (%s)', t, case habit
    when 'queue' then 'autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
      autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off'
    when 'small' then 'autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
      autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off'
    when 'slow' then 'autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000' end);
end $$;
revoke all on function postrider.keep_small(regclass, text) from public;

select postrider.keep_small(t::regclass, 'small') from unnest(array[
  'postrider.lane_hint', 'postrider.worker_session', 'postrider.block', 'postrider.generation']) t;
select postrider.keep_small(t::regclass, 'slow') from unnest(array[
  'postrider.dead_letter', 'postrider.cancellation', 'postrider.upload_chunk', 'postrider.cron_fire',
  'postrider.idempotency_0', 'postrider.idempotency_1', 'postrider.idempotency_2', 'postrider.idempotency_3']) t;

-- ---------------------------------------------------------------- parked rows
-- What an old generation still holds when it is emptied moves here, once. Never truncated.
-- expires_at is in the index so that the walk for expired rows reads no table pages.
create table postrider.ready_g4 partition of postrider.ready for values in (4);
alter table postrider.ready_g4 add primary key (lane_id, run_at, job_id) include (expires_at);
-- As a queue, but each vacuum reads the whole index, so a share of the table is added; and
-- vacuumed after inserts too, which is what lets the walk stay in the index.
alter table postrider.ready_g4 set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 20000,
  autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 100000,
  autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
select postrider.protect('postrider.ready_g4');
grant select, insert, delete, update on postrider.ready_g4 to postrider_worker, postrider_operator;

alter table postrider.generation
  -- Counts what was parked, so that claimers learn of it.
  add column parked bigint not null default 0,
  -- When each generation last became current, by its number.
  add column since timestamptz[] not null default array[now(), now(), now(), now()];

-- ---------------------------------------------------------------- schedules
-- "At this second a lane has work": one row for each lane and second, however many mails.
-- Not unique: whoever inserted the same would wait for a transaction that stays open.
create table postrider.lane_wake(
  at      timestamptz not null,
  lane_id int not null);
create index lane_wake_at on postrider.lane_wake(at, lane_id);
select postrider.keep_small('postrider.lane_wake', 'small');
grant select, insert on postrider.lane_wake to postrider_api;
grant select, insert, update, delete on postrider.lane_wake to postrider_worker, postrider_operator;

-- Recipients of one message into the queue. Says how many were accepted and the
-- positions (from 0) of those that are suppressed. What is due later waits in ready too:
-- a claim does not look beyond now, and lane_wake has the lane looked at in time.
create or replace function postrider.enqueue(
  p_tenant bigint, p_message bigint, p_stream int, p_prio smallint,
  p_expires timestamptz, p_due timestamptz, p_recipients text[], p_payloads text[],
  out accepted int, out suppressed int[])
language plpgsql as $$
begin
  -- A lane is made together with its hint, so that nobody else ever has to insert one.
  with made as (
    insert into postrider.lane(tenant_id, pool_id, prio, stream_id)
    select distinct p_tenant, coalesce(dp.pool_id, 0), p_prio, p_stream
    from (select distinct postrider.domain_of(r) as domain from unnest(p_recipients) r) x
    left join postrider.domain_pool dp using (domain)
    where not exists (
      select 1 from postrider.lane l
      where l.tenant_id = p_tenant and l.pool_id = coalesce(dp.pool_id, 0) and l.prio = p_prio and l.stream_id = p_stream)
    order by 2
    on conflict do nothing
    returning lane_id
  )
  insert into postrider.lane_hint(lane_id) select lane_id from made order by 1 on conflict do nothing;

  with r as materialized (
    select u.recipient, u.payload, u.n::int - 1 as n, l.lane_id, postrider.mint_id() as job_id,
           exists (select 1 from postrider.suppression s
                   where s.tenant_id = p_tenant and s.address = u.recipient) as held
    from unnest(p_recipients, p_payloads) with ordinality as u(recipient, payload, n)
    left join postrider.domain_pool dp on dp.domain = postrider.domain_of(u.recipient)
    join postrider.lane l on l.tenant_id = p_tenant and l.pool_id = coalesce(dp.pool_id, 0)
      and l.prio = p_prio and l.stream_id = p_stream
  ), jobs as (
    insert into postrider.job(job_id, tenant_id, message_id, lane_id, expires_at, recipient, payload)
    select job_id, p_tenant, p_message, lane_id, p_expires, recipient, payload from r where not held
  ), queued as (
    -- What is due long after its generation would be emptied is parked at once.
    insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at)
    select case when p_due > now() + interval '15 minutes' then 4 else (select cur from postrider.generation) end,
           lane_id, coalesce(p_due, now()), job_id, p_tenant, p_expires
    from r where not held
  ), wakes as (
    insert into postrider.lane_wake(at, lane_id)
    select w.at, w.lane_id
    from (select distinct date_trunc('second', p_due + interval '999999 microseconds') as at, lane_id
          from r where not held and p_due is not null) w
    -- A row that is about to be used up may be gone before this transaction commits.
    where w.at < now() + interval '5 seconds' or not exists (
      select 1 from postrider.lane_wake k where k.at = w.at and k.lane_id = w.lane_id)
  ), hints as (
    -- About once a second, and never waiting for another's transaction, however long.
    update postrider.lane_hint set hinted_at = clock_timestamp()
    where lane_id in (
      select h.lane_id from postrider.lane_hint h
      where h.lane_id in (select lane_id from r where not held and p_due is null)
        and h.hinted_at < now() - interval '1 second'
      order by 1 for update skip locked)
  )
  select count(*) filter (where not held), coalesce(array_agg(n order by n) filter (where held), '{}')
  into accepted, suppressed from r;
  -- The two statements above read the same directory under two snapshots; should a domain
  -- have changed its pool in between, the caller repeats the whole.
  if accepted + cardinality(suppressed) <> cardinality(p_recipients) then
    raise exception 'a recipient''s pool changed meanwhile' using errcode = 'serialization_failure';
  end if;
end $$;

-- Lanes whose time has come are hinted; at most p_rows, and how many. A lane whose hint
-- somebody else is writing keeps its row for the next look.
create function postrider.wake_lanes(p_rows int) returns bigint language sql as $$
  with due as materialized (
    select w.ctid, w.lane_id from postrider.lane_wake w where w.at <= now() order by w.at limit p_rows for update skip locked
  ), free as materialized (
    select h.lane_id from postrider.lane_hint h where h.lane_id in (select lane_id from due) order by 1 for update skip locked
  ), hinted as (
    update postrider.lane_hint set hinted_at = clock_timestamp() where lane_id in (select lane_id from free)
  ), gone as (
    delete from postrider.lane_wake
    where ctid = any (array(select ctid from due where lane_id in (select lane_id from free))) returning 1
  )
  select count(*) from gone
$$;

-- ---------------------------------------------------------------- deferred, by due time
-- Windows of six hours: what is due soon is in one small table, and a window that has
-- passed is dropped with its indexes. The default takes what is due beyond the last one.
alter table postrider.deferred rename to deferred_before;
alter table postrider.deferred_before rename constraint deferred_pkey to deferred_before_pkey;
alter index postrider.deferred_job rename to deferred_before_job;

create table postrider.deferred(
  due_at     timestamptz not null,
  job_id     bigint not null,
  lane_id    int not null,
  tenant_id  bigint not null,
  expires_at timestamptz not null,
  attempt    smallint not null default 0,
  hold       int not null default 0,
  suspect    boolean not null default false,
  primary key (due_at, job_id)) partition by range (due_at);
create index deferred_job on postrider.deferred(job_id);
create table postrider.deferred_default partition of postrider.deferred default;
select postrider.protect('postrider.deferred'), postrider.protect('postrider.deferred_default'),
       postrider.keep_small('postrider.deferred_default', 'queue');
grant select, insert on postrider.deferred to postrider_api;
grant select, insert, update, delete on postrider.deferred, postrider.deferred_default to postrider_worker, postrider_operator;

create function postrider.window_start(at timestamptz) returns timestamptz language sql immutable parallel safe as
$$ select to_timestamp(floor(date_part('epoch', at) / 21600) * 21600) $$;
create function postrider.window_name(at timestamptz) returns text language sql stable parallel safe as
$$ select 'deferred_' || to_char(postrider.window_start(at) at time zone 'UTC', 'YYYYMMDDHH24') $$;

-- Makes the window of a moment, if there is none. Refused (check_violation) while rows of
-- it lie in the default partition. Owner's rights, because run-time roles own nothing.
create function postrider.ensure_window(at timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, postrider set lock_timeout = '500ms' as $$
declare name text := postrider.window_name(at); low timestamptz := postrider.window_start(at);
begin
  if to_regclass('postrider.' || name) is not null then return false; end if;
  execute format('create table postrider.%I partition of postrider.deferred for values from (%L) to (%L)',
    name, low, low + interval '6 hours');
  perform postrider.protect(('postrider.' || name)::regclass);
  perform postrider.keep_small(('postrider.' || name)::regclass, 'queue');
  execute format('grant select, insert, update, delete on postrider.%I to postrider_worker, postrider_operator', name);
  return true;
end $$;
revoke all on function postrider.ensure_window(timestamptz) from public;
grant execute on function postrider.ensure_window(timestamptz) to postrider_worker;

-- Drops a window that lies in the past. The caller has locked it and seen that it is empty
-- (the owner of this function may not see tenants' rows).
create function postrider.drop_window(name text) returns void
language plpgsql security definer set search_path = pg_catalog, postrider set lock_timeout = '100ms' as $$
begin
  if name !~ '^deferred_[0-9]{10}$' or name >= postrider.window_name(now()) then
    raise exception 'expected a window of the past, found %', quote_literal(name) using errcode = 'invalid_parameter_value';
  end if;
  execute format('drop table postrider.%I', name);
end $$;
revoke all on function postrider.drop_window(text) from public;
grant execute on function postrider.drop_window(text) to postrider_worker;

-- Windows for three days to come, with what the default partition holds of them moved in,
-- and those of the past that are empty dropped. One that is busy is left to the next time.
create function postrider.roll_windows(out made int, out dropped int) language plpgsql
set lock_timeout = '100ms' as $$
declare low timestamptz; part text; v_rows postrider.deferred_default[]; v_busy boolean;
begin
  made := 0; dropped := 0;
  for low in select generate_series(postrider.window_start(now()), now() + interval '3 days', interval '6 hours') loop
    continue when to_regclass('postrider.' || postrider.window_name(low)) is not null;
    begin
      with few as materialized (
        select d.due_at, d.job_id from postrider.deferred_default d
        where d.due_at >= low and d.due_at < low + interval '6 hours' limit 50000
      ), gone as (
        delete from postrider.deferred_default d using few f
        where d.due_at = f.due_at and d.job_id = f.job_id returning d.*
      )
      select array_agg(gone::postrider.deferred_default) into v_rows from gone;
      made := made + postrider.ensure_window(low)::int;
      insert into postrider.deferred select (u).* from unnest(v_rows) u;
    exception when check_violation or lock_not_available or duplicate_table then null;
    end;
  end loop;
  for part in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'postrider.deferred'::regclass and c.relname ~ '^deferred_[0-9]{10}$'
      and c.relname < postrider.window_name(now())
  loop
    begin
      lock table only postrider.deferred in access exclusive mode;
      execute format('lock table postrider.%I in access exclusive mode', part);
      execute format('select exists (select 1 from postrider.%I)', part) into v_busy;
      continue when v_busy;
      perform postrider.drop_window(part);
      dropped := dropped + 1;
      exit;  -- lets go of the locks; the next hour takes the next one
    exception when lock_not_available then null;
    end;
  end loop;
end $$;

-- Due work becomes ready, at most p_rows; what has expired meanwhile ends. Window by window,
-- the oldest first, so that each step reads one small index from its start.
create function postrider.promote(p_rows int, out moved bigint, out expired bigint) language plpgsql as $$
declare part text; n record;
begin
  moved := 0; expired := 0;
  for part in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'postrider.deferred'::regclass
      and (c.relname = 'deferred_default' or c.relname <= postrider.window_name(now()))
    order by c.relname
  loop
    execute format($q$
      with due as materialized (
        select ctid from postrider.%1$I where due_at <= now() order by due_at, job_id limit $1 for update skip locked
      ), gone as (
        delete from postrider.%1$I where ctid = any (array(select ctid from due)) returning *
      ), ended as (
        insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
        select g.tenant_id, j.message_id, g.job_id, g.attempt, 3, g.suspect
        from gone g join postrider.job j using (job_id) where g.expires_at <= now()
      ), back as (
        insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect)
        select (select cur from postrider.generation), lane_id, now(), job_id, tenant_id, expires_at, attempt, hold, suspect
        from gone where expires_at > now()
        returning lane_id
      ), hints as (
        update postrider.lane_hint set hinted_at = clock_timestamp()
        where lane_id in (
          select h.lane_id from postrider.lane_hint h where h.lane_id in (select lane_id from back)
          order by 1 for update skip locked)
      )
      select (select count(*) from back) as moved, (select count(*) from gone where expires_at <= now()) as expired$q$, part)
    into n using p_rows - moved - expired;
    moved := moved + n.moved; expired := expired + n.expired;
    exit when moved + expired >= p_rows;
  end loop;
end $$;

-- ---------------------------------------------------------------- expiry
-- How far the walk for expired rows has come in each generation.
create table postrider.expiry_walk(
  gen       smallint primary key,
  head_lane int not null default 0,             -- the last lane whose head was looked at
  lane_id   int not null default 0,
  run_at    timestamptz not null default '-infinity',
  job_id    bigint not null default 0,
  walked_at timestamptz not null default '-infinity') with (fillfactor = 50);
insert into postrider.expiry_walk(gen) select generate_series(0, 4);
select postrider.keep_small('postrider.expiry_walk', 'small');
grant select, update on postrider.expiry_walk to postrider_worker, postrider_operator;

-- Ends what has expired in ready, and says how many; at most 10,000 of each generation. For
-- the whole cluster once in p_every: who comes in between, or at the same time, does nothing.
--   * The heads of 2,000 lanes are looked at, in turn, and where one has expired, the rows
--     behind it.
--   * One stride of a walk through all rows, so that those deep in a lane end too. A stride
--     is a 120th of the table, so a round takes 120 strides (ten minutes, at one in five
--     seconds), until with twelve million rows a stride has its longest.
-- Nothing is locked before it is known to go, and nobody's lock is waited for. The settings
-- keep the plans to the indexes, whatever the statistics say.
create function postrider.expire_waiting(p_every interval) returns bigint language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare w record; v_size int; n record; ended bigint := 0; v_heads record;
begin
  for w in
    select * from postrider.expiry_walk where walked_at < clock_timestamp() - p_every order by gen for update skip locked
  loop
    execute format($q$
      with recursive head as (
        (select lane_id, expires_at, 1 as nth from postrider.ready_g%1$s where lane_id > $1
         order by lane_id, run_at, job_id limit 1)
        union all
        select n.lane_id, n.expires_at, h.nth + 1 from head h cross join lateral (
          select r.lane_id, r.expires_at from postrider.ready_g%1$s r where r.lane_id > h.lane_id
          order by r.lane_id, r.run_at, r.job_id limit 1) n
        where h.nth < 2000
      ), stale as materialized (
        select s.tid from head h cross join lateral (
          select r.ctid as tid, r.expires_at from postrider.ready_g%1$s r where r.lane_id = h.lane_id
          order by r.run_at, r.job_id limit 500) s
        where h.expires_at <= now() and s.expires_at <= now() limit 5000
      ), held as materialized (
        select r.ctid from postrider.ready_g%1$s r
        where r.ctid = any (array(select tid from stale)) and r.expires_at <= now() for update skip locked
      ), gone as (
        delete from postrider.ready_g%1$s r where r.ctid = any (array(select ctid from held))
        returning r.job_id, r.tenant_id, r.attempt, r.suspect
      ), ended as (
        insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
        select g.tenant_id, j.message_id, g.job_id, g.attempt, 3, g.suspect from gone g join postrider.job j using (job_id)
      )
      select (select count(*) from gone) as gone, (select max(lane_id) from head having count(*) = 2000) as lane_id$q$, w.gen)
    into v_heads using w.head_lane;
    ended := ended + v_heads.gone;

    v_size := least(greatest(pg_stat_get_live_tuples(format('postrider.ready_g%s', w.gen)::regclass) / 120, 5000), 100000);
    execute format($q$
      with stride as materialized (
        select r.lane_id, r.run_at, r.job_id, r.expires_at from postrider.ready_g%1$s r
        where (r.lane_id, r.run_at, r.job_id) > ($1, $2, $3)
        order by r.lane_id, r.run_at, r.job_id limit $4
      ), stale as materialized (
        select lane_id, run_at, job_id from stride where expires_at <= now() order by 1, 2, 3 limit 5000
      ), held as materialized (
        select r.ctid from stale s join postrider.ready_g%1$s r using (lane_id, run_at, job_id)
        for update of r skip locked
      ), gone as (
        delete from postrider.ready_g%1$s r where r.ctid = any (array(select ctid from held))
        returning r.job_id, r.tenant_id, r.attempt, r.suspect
      ), ended as (
        insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
        select g.tenant_id, j.message_id, g.job_id, g.attempt, 3, g.suspect from gone g join postrider.job j using (job_id)
      ), cut as (
        select count(*) >= 5000 as off from stale
      )
      select (select count(*) from stride) as seen, (select off from cut) as cut_off, (select count(*) from gone) as gone,
             last.lane_id, last.run_at, last.job_id
      from (values (1)) one
      left join lateral (
        (select * from stale where (select off from cut) order by lane_id desc, run_at desc, job_id desc limit 1)
        union all
        (select lane_id, run_at, job_id from stride where not (select off from cut)
         order by lane_id desc, run_at desc, job_id desc limit 1)) last on true$q$, w.gen)
    into n using w.lane_id, w.run_at, w.job_id, v_size;
    ended := ended + n.gone;
    update postrider.expiry_walk set
      -- At the end of the table each walk begins anew.
      head_lane = coalesce(v_heads.lane_id, 0),
      lane_id = case when n.cut_off or n.seen >= v_size then n.lane_id else 0 end,
      run_at = case when n.cut_off or n.seen >= v_size then n.run_at else '-infinity' end,
      job_id = case when n.cut_off or n.seen >= v_size then n.job_id else 0 end,
      -- Where there is more to end at once, the next call may go on.
      walked_at = case when n.cut_off or v_heads.gone >= 5000 then '-infinity' else clock_timestamp() end
    where gen = w.gen;
  end loop;
  return ended;
end $$;

-- For the API, so that time does not stand still while no daemon lives: what is past its
-- limit ends, what is due becomes ready, lanes are woken. Says how many were ended. Runs
-- with the daemon's rights, and gives nothing away but that number.
create function postrider.keep_time(p_rows int) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare v_promoted record;
begin
  perform postrider.wake_lanes(p_rows);
  select * into v_promoted from postrider.promote(p_rows);
  return v_promoted.expired + postrider.expire_waiting(interval '5 seconds');
end $$;
revoke all on function postrider.keep_time(int) from public;
grant execute on function postrider.keep_time(int) to postrider_api, postrider_worker;
grant create on schema postrider to postrider_worker;
alter function postrider.keep_time(int) owner to postrider_worker;
revoke create on schema postrider from postrider_worker;

-- ---------------------------------------------------------------- partitions by day
-- Makes at most p_most partitions; how many. A transaction that makes one locks its parent
-- against everybody, so whoever works beside others makes one at a time: with two parents
-- locked it could stand in a circle with a submission, which needs them in another order.
drop function postrider.ensure_partitions(int);
create function postrider.ensure_partitions(days_ahead int, p_most int) returns int
language plpgsql security definer set search_path = pg_catalog, postrider set timezone = 'UTC'
  set lock_timeout = '500ms' as $$
declare d date; w timestamptz; made int := 0; name text; parent text;
begin
  -- A day that cannot be made (rows of it lie in the default partition already, or somebody
  -- holds a lock on the parent) does not keep the others from being made.
  for d in select generate_series(current_date - 1, current_date + days_ahead, interval '1 day')::date loop
    foreach parent in array array['message', 'job', 'attempt'] loop
      if made >= p_most then return made; end if;
      name := format('%s_%s', parent, to_char(d, 'YYYYMMDD'));
      continue when to_regclass('postrider.' || name) is not null;
      begin
        if parent = 'attempt' then
          execute format('create table postrider.%I partition of postrider.attempt for values from (%L) to (%L)',
            name, d::timestamptz, (d + 1)::timestamptz);
        else
          execute format('create table postrider.%I partition of postrider.%I for values from (%s) to (%s)',
            name, parent, postrider.id_floor(d::timestamptz), postrider.id_floor((d + 1)::timestamptz));
        end if;
        perform postrider.protect(('postrider.' || quote_ident(name))::regclass);
        made := made + 1;
      exception when check_violation or lock_not_available or duplicate_table then null;
      end;
    end loop;
  end loop;
  for w in select generate_series(postrider.window_start(now()), now() + interval '3 days', interval '6 hours') loop
    if made >= p_most then return made; end if;
    begin
      made := made + postrider.ensure_window(w)::int;
    exception when check_violation or lock_not_available or duplicate_table then null;
    end;
  end loop;
  return made;
end $$;
revoke all on function postrider.ensure_partitions(int, int) from public;
grant execute on function postrider.ensure_partitions(int, int) to postrider_worker, postrider_operator;

-- Days of history that lie wholly before the age of their kind.
create function postrider.old_partitions(before timestamptz, history_before timestamptz)
returns table(relname text, day_end timestamptz) language sql stable set timezone = 'UTC' as $$
  select c.relname::text, e.day_end
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  cross join lateral (select (to_date(split_part(c.relname, '_', 2), 'YYYYMMDD') + 1)::timestamptz as day_end) e
  where i.inhparent in ('postrider.message'::regclass, 'postrider.job'::regclass, 'postrider.attempt'::regclass)
    and c.relname ~ '_[0-9]{8}$'
    and e.day_end <= case when i.inhparent = 'postrider.attempt'::regclass then history_before else before end
$$;

-- Drops days of messages and jobs that lie wholly before the age and the id, and days of
-- attempts before theirs (the caller passes oldest_needed(): the owner of this function may
-- not see tenants' rows). One a call, for the reason given above; how many.
drop function postrider.drop_partitions(timestamptz, bigint);
create function postrider.drop_partitions(before timestamptz, history_before timestamptz, needed bigint) returns int
language plpgsql security definer set search_path = pg_catalog, postrider set timezone = 'UTC'
  set lock_timeout = '500ms' as $$
declare part record;
begin
  for part in select * from postrider.old_partitions(before, history_before) loop
    continue when needed is not null and postrider.id_floor(part.day_end) > needed;
    begin
      execute format('drop table postrider.%I', part.relname);
      return 1;
    exception when lock_not_available then null;  -- the next hour tries again
    end;
  end loop;
  return 0;
end $$;
revoke all on function postrider.drop_partitions(timestamptz, timestamptz, bigint) from public;
grant execute on function postrider.drop_partitions(timestamptz, timestamptz, bigint) to postrider_worker;

select postrider.ensure_partitions(3, 1000);

-- ---------------------------------------------------------------- what waits already
-- As the daemon: its policy shows every tenant's rows.
set local role postrider_worker;
insert into postrider.lane_wake(at, lane_id)
select distinct date_trunc('second', due_at + interval '999999 microseconds'), lane_id
from postrider.deferred_before where attempt = 0 and hold = 0;
insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at)
select 4, lane_id, due_at, job_id, tenant_id, expires_at
from postrider.deferred_before where attempt = 0 and hold = 0;
insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at, attempt, hold, suspect)
select due_at, job_id, lane_id, tenant_id, expires_at, attempt, hold, suspect
from postrider.deferred_before where not (attempt = 0 and hold = 0);
reset role;
drop table postrider.deferred_before;

-- ---------------------------------------------------------------- watching
-- Whether a default partition is in use is asked of it alone.
grant select on postrider.message_default, postrider.job_default, postrider.attempt_default to postrider_worker;

-- How long others' transactions have been open is told to members of pg_read_all_stats
-- only. Where the migrating login may not grant it, an administrator does (docs/postgres.md).
do $$ begin
  grant pg_read_all_stats to postrider_worker;
exception when insufficient_privilege then
  raise notice 'ask an administrator for: grant pg_read_all_stats to postrider_worker';
end $$;
