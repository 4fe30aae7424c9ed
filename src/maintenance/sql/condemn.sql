-- Suppressions that reports call for, after the history told of it. Arrays: $1 tenant  $2 address
-- $3 reason  $4 who says so. Who is on the list keeps the first reason.
insert into postrider.suppression(tenant_id, address, reason, source)
select distinct on (tenant_id, address) tenant_id, address, reason, source
from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) with ordinality
  as f(tenant_id, address, reason, source, n)
order by tenant_id, address, n
on conflict do nothing
