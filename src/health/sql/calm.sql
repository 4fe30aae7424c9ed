-- Arrays: $1 tenant  $2 stream. Their rates are well below the limits again.
update postrider.health_stream h
set level = 'well', since = now(), reason = null
from unnest($1::bigint[], $2::text[]) as f(tenant_id, stream)
where h.tenant_id = f.tenant_id and h.stream = f.stream and h.level = 'warned'
