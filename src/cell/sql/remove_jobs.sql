-- At most $2 deliveries of the messages $1, with their history.
with old as materialized (
  select job_id from postrider.job where message_id = any ($1) order by job_id limit $2
), bounds as materialized (
  select min(job_id) as low, max(job_id) as high from old
), history as (
  delete from postrider.attempt
  where message_id = any ($1) and kind = any ('{1,2,3,4,5,6,7,8}'::smallint[])
    and job_id between (select low from bounds) and (select high from bounds)
), gone as (
  delete from postrider.job where job_id in (select job_id from old) returning 1
)
select count(*) from gone
