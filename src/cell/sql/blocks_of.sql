-- What is held back of the tenant $1 and what of it takes another route, but for the move itself.
-- The pool is named where one is part of it: it has another number elsewhere.
with own_lanes as (
  select lane_id::text as key from postrider.lane where tenant_id = $1
), orders as (
  select scope, key, until, reason, actor, since, holder, null as route from postrider.block
  where reason <> 'moving to another cell' and (tenant_id = $1 or scope = 'L' and key in (select key from own_lanes))
  union all
  select scope, key, until, reason, actor, since, null, route from postrider.route_override
  where tenant_id = $1 or scope = 'L' and key in (select key from own_lanes)
)
select o.*, (select p.name from postrider.pool p
             where o.scope ~ 'P' and p.pool_id::text = split_part(o.key, '/', strpos(o.scope, 'P'))) as pool
from orders o where o.until > now()
