-- Takes up to $4 of what waits in lane $1, accepted up to $3, to lane $2, from one generation.
-- What is called back stays where it is and ends there.
with picked as materialized (
  select r.ctid as tid from postrider.ready_g{g} r
  where r.lane_id = $1 and r.job_id <= $3
    and not exists (select 1 from postrider.lane_cancellation c where c.lane_id = $1 and r.job_id <= c.before_id)
  order by r.run_at, r.job_id limit $4 for update of r skip locked
), gone as (
  delete from postrider.ready_g{g} r where r.ctid = any (array(select tid from picked)) returning *
), moved as (
  insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect)
  select (select cur from postrider.generation), $2, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect
  from gone
), jobs as (
  update postrider.job j set lane_id = $2 from gone where j.job_id = gone.job_id
), hints as (
  update postrider.lane_hint set hinted_at = clock_timestamp()
  where lane_id in (
    select h.lane_id from postrider.lane_hint h where h.lane_id = $2 and exists (select 1 from gone)
    for update skip locked)
)
select count(*) from gone
