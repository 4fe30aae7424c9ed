-- Takes work from one generation: $2 lanes, $3 lower bounds of run_at (a hint that
-- spares the walk over a lane's dead head; null: from the start), $4 how many of each.
-- What is scheduled for later lies behind what is due and is not looked at.
-- Only a living session ($1) claims. "materialized" keeps the locked limit from being
-- executed twice. Who is suppressed is asked next, by suppressed.sql: it takes a key that the
-- database does not have.
with want as materialized (
  select w.lane_id, w.after_at, w.take
  from unnest($2::int[], $3::timestamptz[], $4::int[]) as w(lane_id, after_at, take)
  where exists (select 1 from postrider.worker_session s where s.session_id = $1 and s.state = 'alive')
), picked as materialized (
  select p.tid
  from want w
  cross join lateral (
    select r.ctid as tid
    from postrider.ready_g{g} r
    where r.lane_id = w.lane_id and r.run_at >= coalesce(w.after_at, '-infinity') and r.run_at <= now()
    order by r.run_at, r.job_id
    limit w.take
    for update skip locked) p
), gone as (
  delete from postrider.ready_g{g} r
  where r.ctid = any (array(select tid from picked))
  returning r.job_id, r.lane_id, r.tenant_id, r.run_at, r.expires_at, r.attempt, r.hold, r.suspect
), leased as (
  insert into postrider.{lease}(gen, session_id, job_id, lane_id, tenant_id, expires_at, attempt, hold, suspect)
  select {lease_gen}, $1, job_id, lane_id, tenant_id, expires_at, attempt + 1, hold + 1, suspect from gone
)
select {lease_gen}::smallint as lease_gen, g.job_id, g.lane_id, g.tenant_id, g.run_at, g.attempt + 1 as attempt, g.hold + 1 as hold, g.suspect,
       j.message_id, j.recipient, j.payload,
       extract(epoch from now() - g.run_at)::float8 as waited,
       g.expires_at <= now() as expired,
       exists (select 1 from postrider.cancellation c where c.message_id = j.message_id)
         or exists (select 1 from postrider.lane_cancellation c
                    where c.lane_id = g.lane_id and g.job_id <= c.before_id) as cancelled,
       -- What its last worker found out too late; asked for suspects only.
       case when g.suspect then (
         select json_build_object('kind', o.kind, 'code', o.code, 'detail', o.detail)::text
         from postrider.late_outcome o where o.job_id = g.job_id order by o.kind, o.hold desc limit 1) end as late,
       -- Where it is that it may have been taken, and how long ago.
       case when g.suspect then (
         select json_build_object('route', a.detail->>'route', 'seconds', extract(epoch from now() - a.at)::float8)::text
         from postrider.attempt a where a.job_id = g.job_id and a.in_doubt order by a.at desc limit 1) end as doubt
from gone g
join postrider.job j using (job_id)
