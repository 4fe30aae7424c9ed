-- Moves up to $1 rows that were left behind in an old generation to the current one;
-- what has expired ends here.
with stale as materialized (
  select ctid from postrider.ready_g{g} limit $1 for update skip locked
), gone as (
  delete from postrider.ready_g{g} where ctid = any (array(select ctid from stale)) returning *
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
  select g.tenant_id, j.message_id, g.job_id, g.attempt, 3, g.suspect
  from gone g join postrider.job j using (job_id) where g.expires_at <= now()
), moved as (
  insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect)
  select (select cur from postrider.generation), lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect
  from gone where expires_at > now()
)
select count(*) from gone
