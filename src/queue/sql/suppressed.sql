-- Which of these are suppressed; places from 1. Arrays: $1 tenant  $2 lane, whose stream it is
-- about  $3 a form under which the list may name a recipient or its domain. The limit keeps it to
-- one look into the index for each; rows of the table are read for a listed one at most.
select k.n
from unnest($1::bigint[], $2::int[], $3::text[]) with ordinality as k(tenant_id, lane_id, address, n)
cross join lateral (
  select 1 from postrider.suppression s
  where s.tenant_id = any (array[0, k.tenant_id]) and s.address = k.address
    and (s.stream = '' or s.stream = (
      select t.name from postrider.lane l join postrider.stream t using (stream_id) where l.lane_id = k.lane_id))
    and (s.expires_at is null or s.expires_at > now())
  limit 1) found
