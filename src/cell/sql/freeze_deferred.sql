-- Takes up to $4 rows after ($2 due, $3 job) of the leaving tenant $1 out of the reach of promotion.
with leaving as materialized (
  select 1 from postrider.tenant where tenant_id = $1 and residence = 'leaving' for share
), picked as materialized (
  select due_at, job_id from postrider.deferred
  where tenant_id = $1 and (due_at, job_id) > (coalesce($2, '-infinity'::timestamptz), $3) and exists (select 1 from leaving)
  order by due_at, job_id limit $4 for update skip locked
), gone as (
  delete from postrider.deferred d using picked p where d.due_at = p.due_at and d.job_id = p.job_id
  returning d.*
), held as (
  insert into postrider.transit(tenant_id, job_id, place, held)
  select tenant_id, job_id, 'deferred', to_jsonb(gone) from gone
), last as (
  select due_at, job_id from picked order by due_at desc, job_id desc limit 1
)
select (select count(*) from gone), (select due_at from last), (select job_id from last)
