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
  update postrider.lane_hint set hinted_at = clock_timestamp()
  where lane_id in (
    select h.lane_id from postrider.lane_hint h where h.lane_id in (select lane_id from back)
    order by 1 for update skip locked)
)
select count(*) from gone
