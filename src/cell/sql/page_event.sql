-- $1 tenant  $2 after  $3 most. In the same order, and before all that the new cell writes.
select xid || ' ' || event_id as after, row_to_json(x)::text as line
from (
  select e.tenant_id, e.xid - 281474976710656 as xid, e.event_id, e.kind, e.in_doubt, e.attempt, e.code,
         e.message_id, e.job_id, e.next_at, e.address, e.detail
  from postrider.event e
  where e.tenant_id = $1 and (e.xid, e.event_id) > (
    coalesce(nullif(split_part($2, ' ', 1), '')::bigint + 281474976710656, '-9223372036854775808'::bigint),
    coalesce(nullif(split_part($2, ' ', 2), ''), '-1')::bigint)
  order by e.xid, e.event_id limit $3) x
order by x.xid, x.event_id
