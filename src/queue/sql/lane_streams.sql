-- The streams of lanes $1.
select l.lane_id, t.name
from postrider.lane l join postrider.stream t using (stream_id)
where l.lane_id = any ($1::int[])
