-- $1 job. Where a delivery belongs, and in whose hands it is.
select now() as now, j.message_id, j.lane_id, j.tenant_id, l.pool_id::int as pool_id, l.stream_id,
       p.name as mailbox_provider, s.name as stream, m.send_at, m.cancelled_at, j.expires_at,
       held.claimed_at, held.worker
from postrider.job j
join postrider.message m using (message_id)
join postrider.lane l using (lane_id)
join postrider.pool p using (pool_id)
join postrider.stream s on s.stream_id = l.stream_id
left join lateral (
  select e.claimed_at, w.worker
  from postrider.worker_session w join postrider.lease e using (session_id)
  where e.job_id = j.job_id limit 1) held on true
where j.job_id = $1
