-- Ends what has expired at the heads of the lanes of one generation: up to $1 rows of
-- each of the hinted or blocked lanes. Rows further in are caught when they are claimed
-- or when their generation is compacted. Nothing is locked before it is known to go.
with recursive lanes as (
  (select lane_id from postrider.ready_g{g} order by lane_id limit 1)
  union all
  select (select r.lane_id from postrider.ready_g{g} r where r.lane_id > l.lane_id order by r.lane_id limit 1)
  from lanes l where l.lane_id is not null
), stale as materialized (
  select h.tid
  from lanes l
  cross join lateral (
    select r.ctid as tid, r.expires_at from postrider.ready_g{g} r
    where r.lane_id = l.lane_id order by r.run_at, r.job_id limit $1) h
  where l.lane_id is not null and h.expires_at <= now()
), gone as (
  delete from postrider.ready_g{g} r
  where r.ctid = any (array(select tid from stale)) and r.expires_at <= now()
  returning r.job_id, r.tenant_id, r.attempt, r.suspect
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt)
  select g.tenant_id, j.message_id, g.job_id, g.attempt, 3, g.suspect from gone g join postrider.job j using (job_id)
)
select count(*) from gone
