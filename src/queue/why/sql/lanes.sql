-- $1 tenant  $2 lanes, or null for all of the tenant's  $3 rows counted per lane  $4 most lanes
-- What is ready in them, those with most first.
select now() as now, l.lane_id, l.tenant_id, l.pool_id::int as pool_id, l.stream_id, t.name as tenant,
       p.name as mailbox_provider, s.name as stream, due.n as due, due.head, later.n as later, later.first as next_at
from postrider.lane l
join postrider.tenant t using (tenant_id)
join postrider.pool p using (pool_id)
join postrider.stream s using (stream_id)
cross join lateral (
  select count(*) as n, min(run_at) as head
  from (select run_at from postrider.ready r where r.lane_id = l.lane_id and r.run_at <= now()
        order by run_at limit $3) x) due
cross join lateral (
  select count(*) as n, min(run_at) as first
  from (select run_at from postrider.ready r where r.lane_id = l.lane_id and r.run_at > now()
        order by run_at limit $3) x) later
where l.tenant_id = $1 and ($2::int[] is null or l.lane_id = any ($2))
  and (due.n > 0 or later.n > 0)
order by due.n desc, l.lane_id
limit $4
