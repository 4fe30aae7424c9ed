-- Takes up to $3 rows of the lanes $2 of the leaving tenant $1 out of the claimers' reach.
with leaving as materialized (
  select 1 from postrider.tenant where tenant_id = $1 and residence = 'leaving' for share
), picked as materialized (
  select gen, lane_id, run_at, job_id from postrider.ready
  where lane_id = any ($2) and exists (select 1 from leaving) limit $3 for update skip locked
), gone as (
  delete from postrider.ready r using picked p
  where r.gen = p.gen and r.lane_id = p.lane_id and r.run_at = p.run_at and r.job_id = p.job_id
  returning r.*
), held as (
  insert into postrider.transit(tenant_id, job_id, place, held)
  select tenant_id, job_id, 'ready', to_jsonb(gone) from gone
)
select count(*) from gone
