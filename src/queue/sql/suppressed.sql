-- Which of these are suppressed; places from 1. Arrays: $1 tenant  $2 lane, whose stream it is
-- about  $3 a form under which the list may name a recipient or its domain. Everyone's list is
-- asked once for all of them, a tenant's for its own. Sorted as bytes: by a language it takes
-- longer than the look-ups.
with asked as materialized (
  select k.tenant_id, k.lane_id, k.address collate "C" as address, k.n
  from unnest($1::bigint[], $2::int[], $3::text[]) with ordinality as k(tenant_id, lane_id, address, n)
), hit as materialized (
  select null::bigint as tenant_id, l.address, l.stream
  from postrider.listed(0, array(select distinct address from asked)) l
  union all
  select a.tenant_id, l.address, l.stream
  from (select tenant_id, array_agg(distinct address) as forms from asked group by tenant_id) a
  cross join lateral postrider.listed(a.tenant_id, a.forms) l
)
select distinct k.n
from asked k
join hit h on h.address = k.address and (h.tenant_id is null or h.tenant_id = k.tenant_id)
where h.stream = '' or h.stream = (
  select t.name from postrider.lane l join postrider.stream t using (stream_id) where l.lane_id = k.lane_id)
