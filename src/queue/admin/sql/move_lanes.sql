-- For each lane of a scope the lane of another stream with the same tenant and pool, made
-- where there is none. $1 tenant  $2 stream or null  $3 pool or null  $4 lane or null
-- $5 the other stream
with policy as (
  select coalesce(sp.prio, bulk.prio) as prio
  from postrider.stream s
  join postrider.stream_policy bulk on bulk.name = 'bulk'
  left join postrider.stream_policy sp on sp.name = s.name
  where s.stream_id = $5
), source as (
  select l.lane_id, l.tenant_id, l.pool_id
  from postrider.lane l
  where l.tenant_id = $1 and l.stream_id <> $5 and ($2::int is null or l.stream_id = $2)
    and ($3::smallint is null or l.pool_id = $3) and ($4::int is null or l.lane_id = $4)
), made as (
  insert into postrider.lane(tenant_id, pool_id, prio, stream_id)
  select distinct s.tenant_id, s.pool_id, p.prio, $5 from source s cross join policy p
  on conflict (tenant_id, pool_id, prio, stream_id) do update set prio = excluded.prio
  returning lane_id, pool_id
), hinted as (
  insert into postrider.lane_hint(lane_id) select lane_id from made order by 1 on conflict do nothing
)
select s.lane_id as from_lane, m.lane_id as to_lane from source s join made m using (pool_id) order by 1
