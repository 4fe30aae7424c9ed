-- $1 tenant  $2 after  $3 most
select lane_id::text as after, row_to_json(x)::text as line from postrider.lane_cancellation x
where tenant_id = $1 and lane_id > coalesce(nullif($2, ''), '-1')::int order by lane_id limit $3
