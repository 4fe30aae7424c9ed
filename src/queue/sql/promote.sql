-- Due work becomes ready, at most $1 rows; what has expired meanwhile ends here.
with due as materialized (
  select ctid from postrider.deferred where due_at <= now() order by due_at, job_id limit $1 for update skip locked
), gone as (
  delete from postrider.deferred where ctid = any (array(select ctid from due)) returning *
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
  select g.tenant_id, j.message_id, g.job_id, g.attempt, 3, g.suspect
  from gone g join postrider.job j using (job_id) where g.expires_at <= now()
), back as (
  insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect)
  select (select cur from postrider.generation), lane_id, now(), job_id, tenant_id, expires_at, attempt, hold, suspect
  from gone where expires_at > now()
  returning lane_id
), hints as (
  insert into postrider.lane_hint(lane_id) select distinct lane_id from back order by 1
  on conflict (lane_id) do update set hinted_at = now()
)
select count(*) from gone
