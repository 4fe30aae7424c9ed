-- The lanes of the tenant $1 by what they mean, which is the same in every cell.
select l.lane_id, p.name as pool, l.prio, s.stream_id, s.name as stream
from postrider.lane l join postrider.pool p using (pool_id) join postrider.stream s using (stream_id)
where l.tenant_id = $1
