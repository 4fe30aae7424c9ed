-- $1 tenant  $2 where it lives instead. Its rows are gone; the name stays, so that whoever asks
-- the wrong cell learns that it moved. Lanes and streams go last: rows named them.
with lanes as (
  select lane_id from postrider.lane where tenant_id = $1
), hints as (
  delete from postrider.lane_hint where lane_id in (select lane_id from lanes)
), blocks as (
  delete from postrider.block
  where tenant_id = $1 or (scope = 'L' and key in (select lane_id::text from lanes))
), detours as (
  delete from postrider.route_override
  where tenant_id = $1 or (scope = 'L' and key in (select lane_id::text from lanes))
), wakes as (
  delete from postrider.lane_wake where lane_id in (select lane_id from lanes)
), gone_lanes as (
  delete from postrider.lane where tenant_id = $1
), gone_streams as (
  delete from postrider.stream where tenant_id = $1
), gone as (
  update postrider.tenant set residence = 'gone', bound_for = $2
  where tenant_id = $1 and residence in ('left', 'arriving')
  returning tenant_id
)
select count(*) from gone
