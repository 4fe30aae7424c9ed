-- What is ready, by lane: due now and later. $1 most lanes  $2 rows that are counted in all
-- Lanes are found by a loose index scan (one probe a lane); the fewer there are, the further each
-- is counted. Where a count was cut off, the planner's estimate stands beside it.
with recursive lanes as (
  (select lane_id, 1::bigint as n from postrider.ready order by lane_id limit 1)
  union all
  select (select r.lane_id from postrider.ready r where r.lane_id > l.lane_id order by r.lane_id limit 1), l.n + 1
  from lanes l where l.lane_id is not null and l.n < $1
), known as materialized (
  select lane_id from lanes where lane_id is not null
), cap as materialized (
  select greatest(20, least(2000, $2 / greatest(count(*), 1))) as rows from known
), counted as materialized (
  select k.lane_id, due.n as due, due.head, later.n as later, due.n >= cap.rows as due_cut, later.n >= cap.rows as later_cut
  from known k
  cross join cap
  cross join lateral (
    select count(*) as n, min(run_at) as head
    from (select run_at from postrider.ready r where r.lane_id = k.lane_id and r.run_at <= now()
          order by run_at limit (select rows from cap)) x) due
  cross join lateral (
    select count(*) as n
    from (select 1 from postrider.ready r where r.lane_id = k.lane_id and r.run_at > now()
          limit (select rows from cap)) x) later
), estimated as materialized (
  select lane_id, postrider.estimated_due(lane_id) as n
  from (select lane_id from counted where due_cut order by lane_id limit 500) x
)
select c.lane_id, t.name as tenant, p.name as mailbox_provider, s.name as stream,
       coalesce(sp.bulk, (select bulk from postrider.stream_policy where name = 'bulk'), true) as bulk,
       c.due, c.due_cut, e.n as estimate, c.later, c.later_cut,
       extract(epoch from now() - c.head)::float8 as oldest_seconds
from counted c
join postrider.lane l using (lane_id)
join postrider.tenant t using (tenant_id)
join postrider.pool p using (pool_id)
join postrider.stream s using (stream_id)
left join postrider.stream_policy sp on sp.name = s.name
left join estimated e using (lane_id)
