-- $1 message  $2 after this job  $3 jobs to look at  $4 state, or null for all  $5 rows wanted
-- Looks at a bounded stretch of the message's jobs; scanned_to says where it ended.
with m as materialized (
  select created_at, send_at from postrider.message where message_id = $1
), stretch as materialized (
  select j.job_id, j.recipient
  from postrider.job j
  where j.message_id = $1 and j.job_id > $2 and exists (select 1 from m)
  order by j.job_id limit $3
), bounds as materialized (
  select min(job_id) as low, max(job_id) as high, count(*) as n from stretch
), history as (
  -- A delivery has one end at most (kinds 1 to 5), so max only picks it.
  select a.job_id, max(a.attempt) as attempts, max(a.kind) filter (where a.kind <= 5) as kind,
    max(a.at) filter (where a.kind <= 5) as at, max(a.code) filter (where a.kind <= 5) as code
  from postrider.attempt a
  where a.message_id = $1 and a.kind = any('{1,2,3,4,5,6,7,8}'::smallint[])
    and a.job_id between (select low from bounds) and (select high from bounds)
    and a.at >= (select created_at from m)
  group by a.job_id
), sending as materialized (
  select l.job_id
  from postrider.worker_session w join postrider.lease l using (session_id)
), known as (
  select s.job_id, s.recipient, e.code,
    coalesce(f.due_at, case when e.kind is null and d.job_id is null and l.job_id is null and m.send_at > now()
                       then m.send_at end) as due_at,
    coalesce(e.at, d.dead_at) as ended_at,
    coalesce(e.attempts, 0)::int as attempts,
    case
      when e.kind is not null then (array['delivered', 'bounced', 'expired', 'suppressed', 'cancelled'])[e.kind]
      when d.job_id is not null then 'dead_lettered'
      when l.job_id is not null then 'sending'
      when f.job_id is not null then case when f.attempt = 0 then 'scheduled' else 'deferred' end
      when m.send_at > now() then 'scheduled'
      else 'queued'
    end as state
  from stretch s
  cross join m
  left join history e using (job_id)
  left join postrider.dead_letter d on d.message_id = $1 and d.job_id = s.job_id
  left join sending l on l.job_id = s.job_id
  left join postrider.deferred f on f.job_id = s.job_id
)
select page.*, bounds.high as scanned_to, bounds.n as scanned
from bounds left join lateral (
  select * from known where $4::text is null or state = $4 order by job_id limit $5
) page on true
order by page.job_id
