-- Which of these are suppressed; places from 1. Arrays: $1 tenant  $2 lane, whose stream it is
-- about  $3 a form under which the list may name a recipient or its domain. The limit keeps it to
-- one look into the index for each; rows of the table are read for a listed one at most. Where a
-- list has nothing in the clear (hashes begin with #, and sort before), clear forms are not looked
-- for at all.
with clear as materialized (
  select t.tenant_id,
         (select s.address from postrider.suppression s
          where s.tenant_id = t.tenant_id and s.address >= '$' order by s.address limit 1) is not null
         or (select s.address from postrider.suppression s
             where s.tenant_id = 0 and s.address >= '$' order by s.address limit 1) is not null as are_there
  from (select distinct u.tenant_id from unnest($1::bigint[]) u(tenant_id)) t
)
select k.n
from unnest($1::bigint[], $2::int[], $3::text[]) with ordinality as k(tenant_id, lane_id, address, n)
join clear c on c.tenant_id = k.tenant_id and (c.are_there or k.address collate "C" < '$')
cross join lateral (
  select 1 from postrider.suppression s
  where s.tenant_id = any (array[0, k.tenant_id]) and s.address = k.address
    and (s.stream = '' or s.stream = (
      select t.name from postrider.lane l join postrider.stream t using (stream_id) where l.lane_id = k.lane_id))
    and (s.expires_at is null or s.expires_at > now())
  limit 1) found
