-- Age of the oldest ready row by class of stream: one probe per lane and generation.
with recursive lanes as (
  (select lane_id from postrider.ready order by lane_id limit 1)
  union all
  select (select r.lane_id from postrider.ready r where r.lane_id > l.lane_id order by r.lane_id limit 1)
  from lanes l where l.lane_id is not null
), heads as (
  select l.lane_id, (select min(r.run_at) from postrider.ready r where r.lane_id = l.lane_id) as head
  from lanes l where l.lane_id is not null
)
select c.class, coalesce(max(extract(epoch from now() - h.head)), 0)::float8 as seconds
from (values ('transactional', false), ('bulk', true)) as c(class, bulk)
left join (
  select h.head, coalesce(p.bulk, true) as bulk
  from heads h
  join postrider.lane l using (lane_id)
  join postrider.stream s using (stream_id)
  left join postrider.stream_policy p on p.name = s.name
) h on h.bulk = c.bulk
group by 1
