-- Limits that hold over all daemons (docs/throttling.md): what is left of each rate, how
-- the slots of each concurrency are dealt, and what operators put in place of the
-- configuration.
--
-- The first two are unlogged: they change many times a second and are worth nothing after a
-- crash. Then every key starts with one burst, and no slot is dealt before every living
-- daemon has had time to say what it uses.

-- One number for each rate of each key: the release of the last token that was dealt, in
-- nanoseconds since 1970 of this database's clock. nth -1 is the lock of the key's slots.
create unlogged table postrider.throttle_bucket(
  key       text not null,
  nth       smallint not null,
  tail      bigint not null,
  rate      float8 not null,                     -- as last asked with, for people
  burst     float8 not null,
  idle_at   bigint not null,                     -- from then on the row says no more than none
  primary key (key, nth)
) with (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Who has how many slots of a concurrency limit.
create unlogged table postrider.throttle_slot(
  key        text not null,
  session_id bigint not null,
  slots      int not null,                       -- of the limit, as last asked with
  want       int not null,
  allotted   int not null,
  seen_at    timestamptz not null,
  primary key (key, session_id)
) with (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Since when the two tables above remember: a crash empties this one too.
create unlogged table postrider.throttle_era(
  one   boolean primary key default true check (one),
  began timestamptz not null);
insert into postrider.throttle_era(began) values (now() - interval '1 minute');

-- In place of the configured rule of its scope, until it ends. '' names each.
create table postrider.throttle_override(
  scope            text not null check (scope in ('tenant', 'mailbox_provider', 'tenant_mailbox_provider',
                                                  'source', 'source_mailbox_provider', 'route')),
  tenant           text not null default '',
  mailbox_provider text not null default '',
  source           text not null default '',
  route            text not null default '',
  rates            text[] not null default '{}',  -- none: as configured
  burst            int check (burst > 0),
  concurrency      int check (concurrency > 0),
  until            timestamptz not null,
  reason           text not null,
  actor            text not null,
  set_at           timestamptz not null default now(),
  check (rates <> '{}' or concurrency is not null),
  primary key (scope, tenant, mailbox_provider, source, route));

-- Nanoseconds from one token to the nth after it.
create function postrider.throttle_cost(p_rate float8, p_n int) returns bigint
language sql immutable parallel safe as
$$ select least(ceil(p_n::float8 * 1e9::float8 / p_rate), 4e18::float8)::bigint $$;

-- How long after its release a token may be used: by the replica (hold), and in all.
create function postrider.throttle_times(p_rate float8, p_burst float8, out hold bigint, out bank bigint)
language plpgsql immutable parallel safe as $$
declare late bigint := least(floor((greatest(p_burst, 1.25::float8, 1 + p_rate * 0.05::float8) - 1) * 1e9::float8 / p_rate), 4e18::float8)::bigint;
begin
  hold := least(case when p_burst < 2 then late else late / 4 * 3 end,
                greatest(250000000, postrider.throttle_cost(p_rate, 1) / 8));
  bank := late - hold;
end $$;

-- Deals from tail: the next tokens after it, released no later than p_ahead from now. Says
-- the same as deal.rs, number by number.
create function postrider.throttle_deal(
  p_tail bigint, p_now bigint, p_ahead bigint, p_rate float8, p_burst float8,
  p_want int, p_back int, p_back_tail bigint, out granted int, out start bigint, out tail bigint)
language plpgsql immutable parallel safe as $$
declare room bigint; least_start bigint;
begin
  least_start := p_now - (select bank from postrider.throttle_times(p_rate, p_burst))
                 - postrider.throttle_cost(p_rate, 1);
  start := coalesce(p_tail, least_start);
  -- A clock that was set back must not stop the key until it has caught up.
  if start > p_now + p_ahead + 1000000000 then start := p_now + p_ahead; end if;
  if p_back > 0 and p_tail = p_back_tail then
    start := start - least(floor(p_back::float8 * 1e9::float8 / p_rate), 4e18::float8)::bigint;
  end if;
  start := greatest(start, least_start);
  room := p_now + p_ahead - start;
  granted := least(floor(greatest(room, 0)::float8 * p_rate / 1e9::float8) + 1, p_want::float8)::int;
  while granted > 0 and postrider.throttle_cost(p_rate, granted) > room loop
    granted := granted - 1;
  end loop;
  tail := start + postrider.throttle_cost(p_rate, granted);
end $$;

create function postrider.nanos() returns bigint language sql volatile as
$$ select (extract(epoch from clock_timestamp()) * 1000000)::bigint * 1000 $$;

-- Slots of one key for one session, which goes on to use at most p_keep until it hears the
-- answer. The sum of what the living are allotted never grows past the limit. When they
-- want more than there is, each has a target (what the others leave, divided evenly); who is
-- above it shrinks as its slots come back.
create function postrider.throttle_seat(
  p_key text, p_session bigint, p_slots int, p_keep int, p_want int, out allotted int, out target int)
language plpgsql as $$
#variable_conflict use_column
declare
  heard constant interval := interval '3 seconds';
  others int; remaining int := p_slots; waiting int; one record; era timestamptz;
begin
  insert into postrider.throttle_bucket values (p_key, -1, 0, 0, 0, postrider.nanos() + 60000000000)
    on conflict (key, nth) do update set idle_at = excluded.idle_at;
  delete from postrider.throttle_slot
    where key = p_key and (seen_at < clock_timestamp() - heard or (session_id = p_session and p_want = 0 and p_keep = 0));
  allotted := 0;
  target := 0;
  if p_want = 0 and p_keep = 0 then return; end if;
  insert into postrider.throttle_slot values (p_key, p_session, p_slots, p_want, p_keep, clock_timestamp())
    on conflict (key, session_id) do update
    set slots = excluded.slots, want = excluded.want, allotted = excluded.allotted, seen_at = excluded.seen_at;
  select coalesce(sum(s.allotted), 0), count(*) + 1 into others, waiting
    from postrider.throttle_slot s where s.key = p_key and s.session_id <> p_session;
  -- Who wants little leaves the rest to the others; what does not divide stays where it is.
  for one in select s.session_id, s.want from postrider.throttle_slot s
             where s.key = p_key order by s.want, s.allotted, s.session_id desc loop
    if one.session_id = p_session then
      target := least(one.want, remaining / waiting);
    end if;
    remaining := remaining - least(one.want, remaining / waiting);
    waiting := waiting - 1;
  end loop;
  -- Just started: the others may use slots of which they could not tell yet.
  select began into era from postrider.throttle_era;
  if not found then
    insert into postrider.throttle_era(began) values (clock_timestamp()) on conflict do nothing;
    era := clock_timestamp();
  end if;
  if greatest(era, pg_postmaster_start_time()) > clock_timestamp() - heard then
    allotted := p_keep;
  else
    allotted := greatest(p_keep, least(target, p_slots - others));
  end if;
  update postrider.throttle_slot s set allotted = throttle_seat.allotted
    where s.key = p_key and s.session_id = p_session and s.allotted <> throttle_seat.allotted;
end $$;

-- One exchange of one daemon: all rates and all concurrencies for which it has demand. Keys
-- are taken in one order by everyone, so that exchanges wait for each other and never for
-- themselves. place: the position in the arrays, from 1; those of slots are negative.
create function postrider.throttle_exchange(
  p_session bigint, p_ahead bigint,
  p_keys text[], p_nths smallint[], p_rates float8[], p_bursts float8[],
  p_wants int[], p_backs int[], p_back_tails bigint[],
  p_seats text[], p_slots int[], p_keeps int[], p_seat_wants int[])
returns table(place int, granted int, start bigint, tail bigint, allotted int, target int)
language plpgsql as $$
#variable_conflict use_column
declare ask record; dealt record; known bigint; moment bigint;
begin
  -- Nothing here is worth waiting for a disk; it is lost with a crash anyway.
  perform set_config('synchronous_commit', 'off', true);
  for ask in
    select * from unnest(p_keys, p_nths, p_rates, p_bursts, p_wants, p_backs, p_back_tails) with ordinality
      as a(key, nth, rate, burst, want, back, back_tail, at)
    order by a.key collate "C", a.nth
  loop
    loop
      select b.tail into known from postrider.throttle_bucket b where b.key = ask.key and b.nth = ask.nth for update;
      exit when found;
      insert into postrider.throttle_bucket(key, nth, tail, rate, burst, idle_at)
        values (ask.key, ask.nth, -1, ask.rate, ask.burst, 0) on conflict do nothing;
    end loop;
    -- Behind the lock: whoever held it before may have dealt further than a time read earlier.
    moment := postrider.nanos();
    dealt := postrider.throttle_deal(nullif(known, -1), moment, p_ahead, ask.rate, ask.burst,
                                     ask.want, ask.back, ask.back_tail);
    update postrider.throttle_bucket b
      set tail = dealt.tail, rate = ask.rate, burst = ask.burst,
          idle_at = dealt.tail + least(ask.burst * 1e9::float8 / ask.rate, 4e18::float8)::bigint
      where b.key = ask.key and b.nth = ask.nth;
    place := ask.at; granted := dealt.granted; start := dealt.start - moment; tail := dealt.tail;
    allotted := null; target := null;
    return next;
  end loop;
  for ask in
    select * from unnest(p_seats, p_slots, p_keeps, p_seat_wants) with ordinality
      as a(key, slots, keep, want, at)
    order by a.key collate "C"
  loop
    select s.allotted, s.target into allotted, target
      from postrider.throttle_seat(ask.key, p_session, ask.slots, ask.keep, ask.want) s;
    place := -ask.at; granted := null; start := null; tail := null;
    return next;
  end loop;
end $$;

grant select, insert, update, delete on postrider.throttle_bucket, postrider.throttle_slot to postrider_worker;
grant select, insert on postrider.throttle_era to postrider_worker;
grant select, delete on postrider.throttle_override to postrider_worker;
grant select on postrider.throttle_bucket, postrider.throttle_slot to postrider_operator;
grant select, insert, update, delete on postrider.throttle_override to postrider_operator;
