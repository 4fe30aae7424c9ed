-- Lanes whose mail is called back and may not all have ended yet.
select c.lane_id as lane, t.name as tenant, p.name as mailbox_provider, s.name as stream, c.reason, c.actor,
       extract(epoch from now() - c.asked_at)::float8 as asked_seconds
from postrider.lane_cancellation c
join postrider.lane l using (lane_id)
join postrider.tenant t on t.tenant_id = l.tenant_id
join postrider.pool p using (pool_id)
join postrider.stream s using (stream_id)
where ($1::bigint is null or c.tenant_id = $1)
order by 2, 3, 4, 1
limit $2
