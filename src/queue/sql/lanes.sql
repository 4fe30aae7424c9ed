-- The directory entries of lanes $1.
select l.lane_id, l.tenant_id, t.name as tenant, t.weight, t.time_zone, l.pool_id, p.name as pool, l.prio, l.stream_id, s.name as stream
from postrider.lane l
join postrider.tenant t using (tenant_id)
join postrider.pool p using (pool_id)
join postrider.stream s using (stream_id)
where l.lane_id = any ($1)
