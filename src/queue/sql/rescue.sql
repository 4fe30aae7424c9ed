-- Takes up to $1 leases of fenced sessions, one generation. Their outcome is unknown: the
-- stream's policy sends again after $2 seconds (marked suspect) or holds a dead letter; one
-- whose workers died $3 times becomes a dead letter.
with orphans as materialized (
  select l.ctid from postrider.lease_g{g} l
  join postrider.worker_session s using (session_id)
  where s.state = 'fenced' limit $1 for update of l skip locked
), freed as (
  delete from postrider.lease_g{g} where ctid = any (array(select ctid from orphans))
  returning job_id, lane_id, tenant_id, expires_at, attempt, hold
), judged as materialized (
  select f.*, j.message_id, j.recipient, j.payload,
         case
           when 1 + (select count(*) from postrider.attempt a
                     where a.message_id = j.message_id and a.kind = 8 and a.job_id = f.job_id) >= $3 then 'interrupted'
           when coalesce(p.on_doubt, b.on_doubt) = 'hold' then 'doubt'
         end as dead
  from freed f
  join postrider.job j using (job_id)
  join postrider.lane ln on ln.lane_id = f.lane_id
  join postrider.stream st on st.stream_id = ln.stream_id
  join postrider.stream_policy b on b.name = 'bulk'
  left join postrider.stream_policy p on p.name = st.name
), history as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt, next_at, detail)
  select tenant_id, message_id, job_id, attempt, case when dead is null then 8 else 6 end, true,
         case when dead is null then now() + make_interval(secs => $2) end,
         json_build_object('cause', 'the worker that held it died')
  from judged
), again as (
  insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at, attempt, hold, suspect)
  select least(now() + make_interval(secs => $2), greatest(expires_at, now())), job_id, lane_id, tenant_id, expires_at, attempt, hold, true
  from judged where dead is null
), dead as (
  insert into postrider.dead_letter(tenant_id, job_id, message_id, lane_id, attempts, hold, reason, detail, recipient, payload)
  select tenant_id, job_id, message_id, lane_id, attempt, hold, dead, 'the worker that held it died', recipient, payload
  from judged where dead is not null
)
select count(*) from judged
