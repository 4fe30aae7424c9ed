-- Leases of session $1 that nobody in its process knows of ($2: the jobs it has in hand): a
-- claim committed and its answer was lost. They were never begun, so they go back unspent.
-- Only those older than $3 seconds, so that no claim under way is among them.
with stray as (
  delete from postrider.lease
  where session_id = $1 and claimed_at < now() - make_interval(secs => $3) and job_id <> all ($2)
  returning *
), back as (
  insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect)
  select (select cur from postrider.generation), lane_id, now(), job_id, tenant_id, expires_at, attempt - 1, hold, suspect
  from stray
)
select count(*) from stray
