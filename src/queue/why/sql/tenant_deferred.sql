-- $1 tenant  $2 rows looked at, over all tenants. What waits for its time outside of ready, by lane.
select p.name as mailbox_provider, s.name as stream, f.scheduled, f.n, f.next_at
from (
  select lane_id, attempt = 0 as scheduled, count(*) as n, min(due_at) as next_at
  from (select lane_id, tenant_id, attempt, due_at from postrider.deferred order by due_at limit $2) x
  where x.tenant_id = $1 group by 1, 2) f
join postrider.lane l using (lane_id)
join postrider.pool p using (pool_id)
join postrider.stream s using (stream_id)
order by 1, 2, 3
