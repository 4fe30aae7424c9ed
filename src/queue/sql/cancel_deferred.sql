-- Ends up to $2 deferred or scheduled deliveries of the cancelled message $1.
with stale as materialized (
  select d.ctid from postrider.job j join postrider.deferred d using (job_id)
  where j.message_id = $1 limit $2 for update of d skip locked
), gone as (
  delete from postrider.deferred d where d.ctid = any (array(select ctid from stale))
  returning d.job_id, d.tenant_id, d.attempt, d.suspect
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
  select tenant_id, $1, job_id, attempt, 5, suspect from gone
)
select count(*) from gone
