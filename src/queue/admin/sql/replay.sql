-- Dead letters back into the queue, one batch.
-- $1 tenant or null  $2 reason or null  $3 message or null  $4 deliveries or null  $5 after this delivery  $6 most
--
-- The first attempt comes again (attempt 0); the hold stays, so that a worker of old
-- cannot settle the new claim. The time to live starts anew. What was called back or
-- has no content any more stays where it is.
with picked as materialized (
  select d.tenant_id, d.job_id, d.message_id
  from postrider.dead_letter d
  where d.job_id > $5 and ($1::bigint is null or d.tenant_id = $1) and ($2::text is null or d.reason = $2)
    and ($3::bigint is null or d.message_id = $3) and ($4::bigint[] is null or d.job_id = any($4))
  order by d.job_id
  limit $6
  for update skip locked
), fit as materialized (
  select p.tenant_id, p.job_id, greatest(m.expires_at, now() + coalesce(sp.ttl, bulk.ttl)) as expires_at
  from picked p
  join postrider.message m using (message_id)
  join postrider.stream s on s.stream_id = m.stream_id
  join postrider.stream_policy bulk on bulk.name = 'bulk'
  left join postrider.stream_policy sp on sp.name = s.name
  where m.cancelled_at is null
), gone as (
  delete from postrider.dead_letter d using fit f
  where d.tenant_id = f.tenant_id and d.job_id = f.job_id
  returning d.*, f.expires_at
), jobs as (
  insert into postrider.job as j(job_id, tenant_id, message_id, lane_id, expires_at, recipient, payload)
  select job_id, tenant_id, message_id, lane_id, expires_at, recipient, payload from gone
  on conflict (job_id) do update set expires_at = excluded.expires_at
), back as (
  insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold)
  select (select cur from postrider.generation), lane_id, now(), job_id, tenant_id, expires_at, 0, hold from gone
), hinted as (
  update postrider.lane_hint set hinted_at = clock_timestamp()
  where lane_id in (
    select h.lane_id from postrider.lane_hint h where h.lane_id in (select lane_id from gone)
    order by 1 for update skip locked)
)
select (select count(*) from picked) as picked, (select count(*) from gone) as done, (select max(job_id) from picked) as last
