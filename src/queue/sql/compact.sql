-- Parks up to $1 rows that were left behind in an old generation, in the order of its index
-- and after the place ($2 lane, $3 run_at, $4 job), so that the rows that have gone are not
-- walked over again; what has expired ends here. Says how many, and the last place.
with stale as materialized (
  select ctid, lane_id, run_at, job_id from postrider.ready_g{g}
  where (lane_id, run_at, job_id) > ($2, $3, $4)
  order by lane_id, run_at, job_id limit $1 for update skip locked
), gone as (
  delete from postrider.ready_g{g} where ctid = any (array(select ctid from stale)) returning *
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
  select g.tenant_id, j.message_id, g.job_id, g.attempt, 3, g.suspect
  from gone g join postrider.job j using (job_id) where g.expires_at <= now()
), parked as (
  insert into postrider.ready_g4(gen, lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect)
  select 4, lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect
  from gone where expires_at > now() order by lane_id, run_at, job_id
)
select lane_id, run_at, job_id, (select count(*) from gone) as moved
from stale order by lane_id desc, run_at desc, job_id desc limit 1
