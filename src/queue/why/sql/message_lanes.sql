-- $1 message  $2 jobs looked at from either end. The lanes of its deliveries.
select distinct lane_id from (
  (select lane_id from postrider.job where message_id = $1 order by job_id limit $2)
  union all
  (select lane_id from postrider.job where message_id = $1 order by job_id desc limit $2)) x
order by 1
