-- Takes up to $2 dead letters of the leaving tenant $1 out of the reach of replay.
with leaving as materialized (
  select 1 from postrider.tenant where tenant_id = $1 and residence = 'leaving' for share
), picked as materialized (
  select job_id from postrider.dead_letter
  where tenant_id = $1 and exists (select 1 from leaving) limit $2 for update skip locked
), gone as (
  delete from postrider.dead_letter d using picked p where d.tenant_id = $1 and d.job_id = p.job_id
  returning d.*
), held as (
  insert into postrider.transit(tenant_id, job_id, place, held)
  select tenant_id, job_id, 'dead', to_jsonb(gone) from gone
)
select count(*) from gone
