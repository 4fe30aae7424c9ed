-- $1 tenant  $2 after  $3 most. As the events.
select webhook_id || ' ' || xid || ' ' || event_id as after, row_to_json(x)::text as line
from (
  select r.tenant_id, r.webhook_id, r.xid - 281474976710656 as xid, r.event_id, r.job_id, r.tries, r.since, r.due_at
  from postrider.webhook_retry r
  where r.tenant_id = $1 and (r.webhook_id, r.xid, r.event_id) > (
    coalesce(nullif(split_part($2, ' ', 1), ''), '-1')::bigint,
    coalesce(nullif(split_part($2, ' ', 2), '')::bigint + 281474976710656, '-9223372036854775808'::bigint),
    coalesce(nullif(split_part($2, ' ', 3), ''), '-1')::bigint)
  order by r.webhook_id, r.xid, r.event_id limit $3) x
order by x.webhook_id, x.xid, x.event_id
