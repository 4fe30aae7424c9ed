-- What waits for its time outside of ready, by class: $1 rows looked at.
select coalesce(sp.bulk, (select bulk from postrider.stream_policy where name = 'bulk'), true) as bulk,
       f.attempt = 0 as scheduled, sum(f.n)::bigint as rows
from (
  select lane_id, least(attempt, 1) as attempt, count(*) as n
  from (select lane_id, attempt from postrider.deferred limit $1) x group by 1, 2) f
join postrider.lane l using (lane_id)
join postrider.stream s using (stream_id)
left join postrider.stream_policy sp on sp.name = s.name
group by 1, 2
