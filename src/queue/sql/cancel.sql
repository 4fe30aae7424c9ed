-- Ends up to $2 waiting deliveries of the cancelled message $1 in one generation.
with stale as materialized (
  select r.ctid from postrider.job j
  join postrider.ready_g{g} r on r.lane_id = j.lane_id and r.job_id = j.job_id
  where j.message_id = $1 limit $2 for update of r skip locked
), gone as (
  delete from postrider.ready_g{g} r where r.ctid = any (array(select ctid from stale))
  returning r.job_id, r.tenant_id, r.attempt, r.suspect
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
  select tenant_id, $1, job_id, attempt, 5, suspect from gone
)
select count(*) from gone
