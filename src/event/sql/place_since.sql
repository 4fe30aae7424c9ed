-- $1 tenant  $2 since: right before the first event of the log from then on, in the log's order;
-- where there is none, right before the oldest transaction that still runs.
select xid, event_id - 1 as event_id from (
  select e.xid, e.event_id from postrider.event e
  where e.tenant_id = $1 and e.event_id >= postrider.id_floor($2::timestamptz)
  order by e.xid, e.event_id limit 1) first
union all
select postrider.event_horizon() - 1, 9223372036854775807
order by 1, 2 limit 1
