-- Lanes of the tenant $1: pools $2, priorities $3, streams $4, with their hints.
with wanted as (
  select distinct p.pool_id, w.prio, s.stream_id
  from unnest($2::text[], $3::smallint[], $4::text[]) w(pool, prio, stream)
  join postrider.pool p on p.name = w.pool
  join postrider.stream s on s.tenant_id = $1 and s.name = w.stream
), made as (
  insert into postrider.lane(tenant_id, pool_id, prio, stream_id)
  select $1, pool_id, prio, stream_id from wanted on conflict do nothing
  returning lane_id
)
insert into postrider.lane_hint(lane_id) select lane_id from made on conflict do nothing
