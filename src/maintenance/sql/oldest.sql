-- Age of the oldest ready row by class of stream, and by how much one has outlived its
-- expiry: one probe per lane and generation. What is scheduled for later has no age.
with recursive heads as (
  (select lane_id, run_at, expires_at from postrider.ready order by lane_id, run_at, job_id limit 1)
  union all
  select n.lane_id, n.run_at, n.expires_at
  from heads h
  cross join lateral (
    select r.lane_id, r.run_at, r.expires_at from postrider.ready r
    where r.lane_id > h.lane_id order by r.lane_id, r.run_at, r.job_id limit 1) n
)
select c.class,
       coalesce(max(extract(epoch from now() - h.run_at)) filter (where h.run_at <= now()), 0)::float8 as seconds,
       greatest(coalesce(max(extract(epoch from now() - h.expires_at)), 0), 0)::float8 as overdue
from (values ('transactional', false), ('bulk', true)) as c(class, bulk)
left join (
  select h.run_at, h.expires_at, coalesce(p.bulk, true) as bulk
  from heads h
  join postrider.lane l using (lane_id)
  join postrider.stream s using (stream_id)
  left join postrider.stream_policy p on p.name = s.name
) h on h.bulk = c.bulk
group by 1
