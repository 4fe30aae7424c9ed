-- Ends up to $3 waiting deliveries of lane $1, accepted up to $2, in one generation. Looks at
-- no more than $3 rows, after the place ($4, $5) (null: from the start). Says how many rows it looked at,
-- how many of them it ended, and where to go on.
with seen as materialized (
  select r.ctid as tid, r.run_at, r.job_id from postrider.ready_g{g} r
  where r.lane_id = $1 and (r.run_at, r.job_id) > (coalesce($4::timestamptz, '-infinity'), coalesce($5::bigint, 0))
  order by r.run_at, r.job_id limit $3
), stale as materialized (
  select r.ctid as tid from postrider.ready_g{g} r
  where r.ctid = any (array(select tid from seen where job_id <= $2)) for update skip locked
), gone as (
  delete from postrider.ready_g{g} r
  where r.ctid = any (array(select tid from stale)) and r.lane_id = $1 and r.job_id <= $2
  returning r.job_id, r.tenant_id, r.attempt, r.suspect
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
  select g.tenant_id, j.message_id, g.job_id, g.attempt, 5, g.suspect from gone g join postrider.job j using (job_id)
)
select (select count(*) from seen) as seen, (select count(*) from gone) as ended, l.run_at, l.job_id
from (select 1) one left join lateral (select run_at, job_id from seen order by 1 desc, 2 desc limit 1) l on true
