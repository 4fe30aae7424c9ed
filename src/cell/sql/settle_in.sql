-- Gives up to $2 deliveries of the tenant $1 back to the queue, each to the place it was
-- taken from, and wakes their lanes.
with living as materialized (
  select 1 from postrider.tenant where tenant_id = $1 and residence = 'here' for share
), picked as materialized (
  select job_id from postrider.transit
  where tenant_id = $1 and exists (select 1 from living) order by job_id limit $2 for update skip locked
), gone as (
  delete from postrider.transit t using picked p where t.tenant_id = $1 and t.job_id = p.job_id
  returning t.place, t.held
), now_ready as (
  insert into postrider.ready
  select r.* from gone g
  cross join lateral jsonb_populate_record(null::postrider.ready,
    g.held || jsonb_build_object('gen',
      -- What is due long after its generation would be emptied is parked at once.
      case when (g.held ->> 'run_at')::timestamptz > now() + interval '15 minutes' then 4
           else (select cur from postrider.generation) end)) r
  where g.place = 'ready'
), wakes as (
  insert into postrider.lane_wake(at, lane_id)
  select distinct date_trunc('second', (held ->> 'run_at')::timestamptz + interval '999999 microseconds'),
                  (held ->> 'lane_id')::int
  from gone where place = 'ready' and (held ->> 'run_at')::timestamptz > now()
), later as (
  insert into postrider.deferred
  select r.* from gone g cross join lateral jsonb_populate_record(null::postrider.deferred, g.held) r
  where g.place = 'deferred'
), dead as (
  insert into postrider.dead_letter
  select r.* from gone g cross join lateral jsonb_populate_record(null::postrider.dead_letter, g.held) r
  where g.place = 'dead'
), hints as (
  update postrider.lane_hint set hinted_at = clock_timestamp()
  where lane_id in (
    select h.lane_id from postrider.lane_hint h
    where h.lane_id in (select (held ->> 'lane_id')::int from gone where place = 'ready')
    order by 1 for update skip locked)
)
select count(*) from gone
