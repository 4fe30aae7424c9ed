-- Ends up to $2 deferred deliveries of the cancelled message $1.
with stale as materialized (
  select d.due_at, d.job_id from postrider.job j join postrider.deferred d using (job_id)
  where j.message_id = $1 limit $2 for update of d skip locked
), gone as (
  delete from postrider.deferred d using stale s where d.due_at = s.due_at and d.job_id = s.job_id
  returning d.job_id, d.tenant_id, d.attempt, d.suspect
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
  select tenant_id, $1, job_id, attempt, 5, suspect from gone
)
select count(*) from gone
