-- The backstop behind the hints: lanes that hold rows in one generation, and whether their
-- first is due, by a loose index scan (one probe a lane, whatever the depth).
with recursive w as (
  (select lane_id, run_at from postrider.ready_g{g} order by lane_id, run_at, job_id limit 1)
  union all
  select n.lane_id, n.run_at
  from w
  cross join lateral (
    select r.lane_id, r.run_at from postrider.ready_g{g} r
    where r.lane_id > w.lane_id order by r.lane_id, r.run_at, r.job_id limit 1) n
)
select lane_id, run_at <= now() as due from w
