-- Ends the doubt about one batch of deliveries, as $6: delivered, discard, or resend.
-- $1 tenant or null  $2 deliveries or null  $3 held since before, or null  $4 after this delivery  $5 most
-- $6 verdict  $7 what the history says (JSON)  $8 stream or null
--
-- Held ones are dead letters that may have been sent. Those that wait for being sent again are
-- found by their number only. What was called back or has no content any more is not sent again.
with held as materialized (
  select d.tenant_id, d.job_id, d.message_id
  from postrider.dead_letter d
  where d.job_id > $4 and ($1::bigint is null or d.tenant_id = $1) and ($2::bigint[] is null or d.job_id = any ($2))
    and ($3::timestamptz is null or d.dead_at < $3)
    and ($8::text is null or exists (select 1 from postrider.lane l join postrider.stream s using (stream_id)
                                     where l.lane_id = d.lane_id and s.name = $8))
    and (d.reason = 'doubt' or d.reason = 'interrupted' and exists (
           select 1 from postrider.attempt a where a.job_id = d.job_id and a.in_doubt))
  order by d.job_id
  limit $5
  for update skip locked
), waiting as materialized (
  select f.due_at, f.job_id
  from postrider.deferred f
  where f.job_id = any ($2) and f.job_id > $4 and f.suspect and ($1::bigint is null or f.tenant_id = $1)
    and ($8::text is null or exists (select 1 from postrider.lane l join postrider.stream s using (stream_id)
                                     where l.lane_id = f.lane_id and s.name = $8))
  order by f.job_id
  limit $5
  for update skip locked
), fit as materialized (
  select h.tenant_id, h.job_id, greatest(m.expires_at, now() + coalesce(sp.ttl, bulk.ttl)) as expires_at
  from held h
  left join postrider.message m using (message_id)
  left join postrider.stream s on s.stream_id = m.stream_id
  left join postrider.stream_policy bulk on bulk.name = 'bulk'
  left join postrider.stream_policy sp on sp.name = s.name
  where $6 <> 'resend' or m.message_id is not null and m.cancelled_at is null
), gone as (
  delete from postrider.dead_letter d using fit f
  where d.tenant_id = f.tenant_id and d.job_id = f.job_id
  returning d.tenant_id, d.job_id, d.message_id, d.lane_id, d.attempts as attempt, d.hold, d.recipient, d.payload, f.expires_at
), freed as (
  delete from postrider.deferred f using waiting w
  where f.due_at = w.due_at and f.job_id = w.job_id
  returning f.tenant_id, f.job_id, f.lane_id, f.attempt, f.hold, f.expires_at
), taken as (
  select tenant_id, job_id, message_id, lane_id, attempt, hold, expires_at from gone
  union all
  select f.tenant_id, f.job_id, j.message_id, f.lane_id, f.attempt, f.hold, f.expires_at
  from freed f join postrider.job j using (job_id)
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt, detail)
  select tenant_id, message_id, job_id, attempt, case when $6 = 'delivered' then 1 else 5 end, $6 <> 'delivered', $7::json
  from taken where $6 <> 'resend'
), jobs as (
  insert into postrider.job as j(job_id, tenant_id, message_id, lane_id, expires_at, recipient, payload)
  select job_id, tenant_id, message_id, lane_id, expires_at, recipient, payload from gone where $6 = 'resend'
  on conflict (job_id) do update set expires_at = excluded.expires_at
), back as (
  insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect)
  select (select cur from postrider.generation), lane_id, now(), job_id, tenant_id, expires_at, attempt, hold, true
  from taken where $6 = 'resend'
), hinted as (
  update postrider.lane_hint set hinted_at = clock_timestamp()
  where lane_id in (
    select h.lane_id from postrider.lane_hint h where $6 = 'resend' and h.lane_id in (select lane_id from taken)
    order by 1 for update skip locked)
), evidence as (
  -- Whoever decided knows better.
  delete from postrider.late_outcome where job_id in (select job_id from taken)
)
select (select count(*) from held) + (select count(*) from waiting) as picked, (select count(*) from taken) as done,
       (select max(job_id) from held) as last
