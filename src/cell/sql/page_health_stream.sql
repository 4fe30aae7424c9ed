-- $1 tenant  $2 after  $3 most
select stream as after, row_to_json(h)::text as line
from postrider.health_stream h where tenant_id = $1 and stream > $2 order by stream limit $3
