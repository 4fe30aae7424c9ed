-- Why mail waits and how fast it goes: what each daemon knows and nobody else, told to
-- everyone about once a second. Nothing here is needed to deliver: the tables are unlogged,
-- and after a crash of the database every daemon tells everything again.

-- One row per session.
create unlogged table postrider.worker_signal(
  session_id bigint primary key,
  told_at    timestamptz not null default clock_timestamp(),
  ended      bigint not null,          -- deliveries that came to an end by it, transactional
  ended_bulk bigint not null,          -- the same of bulk streams
  rate       float8 not null,          -- ends a second over the last half minute, transactional
  rate_bulk  float8 not null,
  in_hand    int not null,
  slots      int not null,             -- deliveries it may have in hand
  capacity   float8                    -- ends a second when work waited for nothing else; null: not seen yet
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Lanes that hold work and wait, as each session sees it.
create unlogged table postrider.lane_wait(
  session_id bigint not null,
  lane_id    int not null,
  tenant_id  bigint not null,
  reason     text not null,            -- paused, rate, concurrency, tenant_room, fairness, no_room, turn, ...
  limit_key  text,                     -- the limit that binds, in words
  limit_text text,                     -- what it allows, in words
  limit_rate float8,                   -- what it allows a second, where it is a rate
  lane_rate  float8 not null,          -- deliveries of the lane a second that this session takes on
  since      timestamptz not null,
  until      timestamptz,              -- when it is asked again, where that is known
  primary key (session_id, lane_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create index lane_wait_lane on postrider.lane_wait(lane_id);
select postrider.protect('postrider.lane_wait');

-- How many replicas were suggested last, and since when fewer would have done: the suggestion
-- grows at once and shrinks only after a while, whoever is asked.
create unlogged table postrider.scale_state(
  one         boolean primary key default true check (one),
  suggested   int not null,
  fewer       int,                     -- the most that was needed since fewer_since
  fewer_since timestamptz);

grant select, insert, update, delete on postrider.worker_signal, postrider.lane_wait, postrider.scale_state
  to postrider_worker;
grant select on postrider.lane_wait to postrider_api;
grant select on postrider.worker_signal, postrider.lane_wait, postrider.scale_state to postrider_operator;

-- p_needed replicas are needed now; what to suggest, when fewer are suggested only after they
-- would have done for p_hold.
create function postrider.suggest_replicas(p_needed int, p_hold interval) returns int
language sql as $$
  insert into postrider.scale_state as s(suggested) values (p_needed)
  on conflict (one) do update set
    suggested = case
      when excluded.suggested >= s.suggested then excluded.suggested
      when s.fewer_since <= now() - p_hold then greatest(s.fewer, excluded.suggested)
      else s.suggested end,
    fewer = case
      when excluded.suggested >= s.suggested then null
      when s.fewer_since <= now() - p_hold then excluded.suggested
      else greatest(s.fewer, excluded.suggested) end,
    fewer_since = case
      when excluded.suggested >= s.suggested then null
      when s.fewer_since is null or s.fewer_since <= now() - p_hold then now()
      else s.fewer_since end
  returning suggested
$$;

-- About how many ready rows of a lane are due, by the planner's statistics: what a count would
-- cost too much for. Only as good as the last analyze.
create function postrider.estimated_due(p_lane int) returns bigint
language plpgsql as $$
declare v_plan json;
begin
  execute format('explain (format json) select 1 from postrider.ready where lane_id = %s and run_at <= now()', p_lane)
    into v_plan;
  return (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric::bigint;
end $$;

-- What holds a lane's mail back by somebody's word, for the tenant's eyes: the API's role sees
-- only blocks that name the tenant, so it asks here, and only for the tenant it acts for.
-- Reasons of what concerns all tenants are for operators.
create function postrider.lane_blocks(p_tenant bigint, p_pool int, p_stream int, p_lane int)
returns table(scope text, reason text, since timestamptz, until timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select postrider.scope_kind(b.scope), case when b.scope <> 'P' then b.reason end, b.since,
         case when b.until < now() + interval '50 years' then b.until end
  from postrider.block b
  where b.until > now() and p_tenant = postrider.current_tenant()
    and (b.scope, b.key) in (
      ('T', p_tenant::text), ('P', p_pool::text), ('L', p_lane::text), ('TS', concat_ws('/', p_tenant, p_stream)),
      ('TP', concat_ws('/', p_tenant, p_pool)), ('TSP', concat_ws('/', p_tenant, p_stream, p_pool)))
  order by b.until desc
$$;
revoke all on function postrider.lane_blocks(bigint, int, int, int) from public;
grant execute on function postrider.lane_blocks(bigint, int, int, int) to postrider_api;
