-- Takes up to $1 leases of fenced sessions, one generation.
--
-- With an intent for its hold, a delivery may have been sent: its stream's policy sends again
-- after $2 seconds (marked suspect) or holds a dead letter. Without one nothing was sent: it
-- goes back unspent, spread over a second. In both cases one whose workers died $3 times since
-- it was last a dead letter becomes one; before that, the more often they died, the wider its
-- next try is spread, so that those who died beside what kills workers part company with it.
with orphans as materialized (
  select l.ctid from postrider.lease_g{g} l
  join postrider.worker_session s using (session_id)
  where s.state = 'fenced' limit $1 for update of l skip locked
), freed as (
  delete from postrider.lease_g{g} where ctid = any (array(select ctid from orphans))
  returning session_id, job_id, lane_id, tenant_id, expires_at, attempt, hold, suspect
), intended as materialized (
  select i.session_id, u.job_id, u.hold, i.at
  from postrider.intent i cross join lateral unnest(i.job_ids, i.holds) as u(job_id, hold)
  where i.session_id in (select session_id from freed)
), known as (
  select f.*, j.message_id, j.recipient, j.payload, w.worker, i.at as intended_at, i.at is not null as intended,
         coalesce(p.on_doubt, b.on_doubt) as on_doubt,
         1 + (select count(*) from postrider.attempt a
              where a.message_id = j.message_id and a.kind = 8 and a.job_id = f.job_id
                and not exists (select 1 from postrider.attempt d where d.message_id = a.message_id and d.kind = 6
                                and d.job_id = a.job_id and d.at > a.at)) as deaths
  from freed f
  join postrider.job j using (job_id)
  join postrider.worker_session w using (session_id)
  join postrider.lane ln on ln.lane_id = f.lane_id
  join postrider.stream st on st.stream_id = ln.stream_id
  join postrider.stream_policy b on b.name = 'bulk'
  left join postrider.stream_policy p on p.name = st.name
  left join intended i on i.session_id = f.session_id and i.job_id = f.job_id and i.hold = f.hold
), judged as materialized (
  select job_id, lane_id, tenant_id, expires_at, hold, message_id, recipient, payload, intended,
         suspect or intended as suspect,
         case when intended then attempt else attempt - 1 end as attempt,
         case when deaths >= $3 then 'interrupted' when intended and on_doubt = 'hold' then 'doubt' end as dead,
         least(now() + make_interval(secs => case
                 when intended then $2 + random() * least($2 * power(2, least(deaths, 20) - 1), 3600)
                 when deaths = 1 then random() * least($2, 1)
                 else random() * least($2 * power(2, least(deaths, 20) - 1), 3600) end),
               greatest(expires_at, now())) as due_at,
         json_strip_nulls(json_build_object(
           'cause', case when intended then 'its worker died after it had said that it would send'
                         else 'its worker died before anything was sent' end,
           'session', session_id, 'worker', worker, 'intended_at', intended_at)) as detail
  from known
), history as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt, next_at, detail)
  select tenant_id, message_id, job_id, attempt, case when dead is null then 8 else 6 end,
         case when dead is null then intended else suspect end, case when dead is null then due_at end, detail
  from judged
), again as (
  insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at, attempt, hold, suspect)
  select due_at, job_id, lane_id, tenant_id, expires_at, attempt, hold, suspect from judged where dead is null
), dead as (
  insert into postrider.dead_letter(tenant_id, job_id, message_id, lane_id, attempts, hold, reason, detail, recipient, payload)
  select tenant_id, job_id, message_id, lane_id, attempt, hold, dead, detail::text, recipient, payload
  from judged where dead is not null
)
select count(*) filter (where not intended) as unsent,
       count(*) filter (where intended and dead is null) as resent,
       count(*) filter (where intended and dead is not null) as held
from judged
