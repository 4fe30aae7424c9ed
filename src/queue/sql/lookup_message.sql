-- $1 message
-- One statement, so that all counts are of one moment.
with m as materialized (
  select m.*, s.name as stream
  from postrider.message m join postrider.stream s using (stream_id)
  where m.message_id = $1
), ends as (
  -- at: attempts cannot be older than their message, so older partitions are not opened.
  select a.kind, count(*) as n
  from postrider.attempt a
  where a.message_id = $1 and a.kind = any('{1,2,3,4,5}'::smallint[]) and a.at >= (select created_at from m)
  group by a.kind
), dead as (
  select count(*) as n from postrider.dead_letter d where d.message_id = $1
), waiting as (
  -- Nothing to look for once every recipient has its end.
  select count(*) filter (where d.attempt = 0) as scheduled, count(*) filter (where d.attempt > 0) as deferred
  from postrider.job j join postrider.deferred d using (job_id)
  where j.message_id = $1
    and (select accepted from m) > (select coalesce(sum(n), 0) from ends) + (select n from dead)
), sending as (
  select count(*) as n
  from postrider.worker_session w join postrider.lease l using (session_id) join postrider.job j using (job_id)
  where j.message_id = $1
)
-- Before its time comes, all that has not ended is scheduled.
select m.stream, m.created_at, m.send_at, coalesce(m.send_at > now(), false) as not_yet, m.expires_at, m.cancelled_at, m.accepted, m.suppressed,
  m.content ->> 'from' as from_address, m.content ->> 'subject' as subject, (m.content -> 'metadata')::text as metadata,
  waiting.scheduled, waiting.deferred, sending.n as sending, dead.n as dead_lettered,
  coalesce((select n from ends where kind = 1), 0) as delivered,
  coalesce((select n from ends where kind = 2), 0) as bounced,
  coalesce((select n from ends where kind = 3), 0) as expired,
  coalesce((select n from ends where kind = 4), 0) as ended_suppressed,
  coalesce((select n from ends where kind = 5), 0) as ended_cancelled
from m, waiting, sending, dead
