-- What waits in the lanes of a scope: $1 tenant or null  $2 stream or null  $3 pool or null
-- $4 lane or null. At most $5 rows of each lane are counted.
with leased as (
  select lane_id, count(*) as n from (select lane_id from postrider.lease limit $5) x group by lane_id
)
select l.lane_id as lane, t.name as tenant, p.name as mailbox_provider, s.name as stream, l.prio as priority,
       r.n as ready, r.n >= $5 as more_ready, d.n as deferred, d.n >= $5 as more_deferred, coalesce(leased.n, 0) as leased
from postrider.lane l
join postrider.tenant t using (tenant_id)
join postrider.pool p using (pool_id)
join postrider.stream s using (stream_id)
cross join lateral (
  select count(*) as n from (select from postrider.ready where ready.lane_id = l.lane_id limit $5) x) r
cross join lateral (
  select count(*) as n from (select from postrider.deferred where deferred.lane_id = l.lane_id limit $5) x) d
left join leased using (lane_id)
where ($1::bigint is null or l.tenant_id = $1) and ($2::int is null or l.stream_id = $2)
  and ($3::smallint is null or l.pool_id = $3) and ($4::int is null or l.lane_id = $4)
  and (r.n > 0 or d.n > 0 or leased.n > 0)
order by 2, 3, 4, 5
