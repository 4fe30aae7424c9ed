-- Ends up to $3 deferred or scheduled deliveries of lane $1, accepted up to $2.
with stale as materialized (
  select d.ctid as tid, d.tableoid as part from postrider.deferred d
  where d.lane_id = $1 and d.job_id <= $2 limit $3 for update skip locked
), gone as (
  delete from postrider.deferred d
  where d.ctid = any (array(select tid from stale)) and (d.tableoid, d.ctid) in (select part, tid from stale)
  returning d.job_id, d.tenant_id, d.attempt, d.suspect
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
  select g.tenant_id, j.message_id, g.job_id, g.attempt, 5, g.suspect from gone g join postrider.job j using (job_id)
)
select count(*) from gone
