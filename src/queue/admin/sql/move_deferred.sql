-- Takes up to $4 of what is deferred in lane $1, accepted up to $3, to lane $2.
with picked as materialized (
  select d.ctid as tid, d.tableoid as part from postrider.deferred d
  where d.lane_id = $1 and d.job_id <= $3
    and not exists (select 1 from postrider.lane_cancellation c where c.lane_id = $1 and d.job_id <= c.before_id)
  order by d.job_id limit $4 for update of d skip locked
), gone as (
  delete from postrider.deferred d
  where d.ctid = any (array(select tid from picked)) and (d.tableoid, d.ctid) in (select part, tid from picked)
  returning d.due_at, d.job_id, d.tenant_id, d.expires_at, d.attempt, d.hold, d.suspect
), moved as (
  insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at, attempt, hold, suspect)
  select due_at, job_id, $2, tenant_id, expires_at, attempt, hold, suspect from gone
), jobs as (
  update postrider.job j set lane_id = $2 from gone where j.job_id = gone.job_id
)
select count(*) from gone
