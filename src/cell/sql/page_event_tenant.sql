-- $1 tenant  $2 after  $3 most. It has moved once more.
select tenant_id::text as after, (to_jsonb(x) || jsonb_build_object('moves', x.moves + 1))::text as line
from postrider.event_tenant x
where tenant_id = $1 and tenant_id > coalesce(nullif($2, ''), '-1')::bigint order by tenant_id limit $3
