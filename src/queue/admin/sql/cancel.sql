-- Calls back everything that was accepted until now in the lanes of: $1 tenant or null
-- $2 stream or null  $3 pool or null  $4 lane or null. $5 reason  $6 actor
with now_id as materialized (
  select postrider.mint_id() as id
), asked as (
  insert into postrider.lane_cancellation as c(lane_id, tenant_id, before_id, reason, actor)
  select l.lane_id, l.tenant_id, n.id, $5, $6
  from postrider.lane l cross join now_id n
  where ($1::bigint is null or l.tenant_id = $1) and ($2::int is null or l.stream_id = $2)
    and ($3::smallint is null or l.pool_id = $3) and ($4::int is null or l.lane_id = $4)
  order by l.lane_id
  on conflict (lane_id) do update
  set before_id = greatest(c.before_id, excluded.before_id), asked_at = now(), look_at = now(),
      reason = excluded.reason, actor = excluded.actor
  returning 1
)
select count(*) from asked
