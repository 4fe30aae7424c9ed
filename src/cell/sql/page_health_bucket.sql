-- $1 tenant  $2 after  $3 most
select x.after, row_to_json(b)::text as line
from postrider.health_bucket b
cross join lateral (
  select concat_ws(' ', b.stream, b.minutes, extract(epoch from b.at)::bigint, b.mailbox_provider) as after) x
where b.tenant_id = $1
  and (b.stream, b.minutes, b.at, b.mailbox_provider) > (
    split_part($2, ' ', 1), coalesce(nullif(split_part($2, ' ', 2), ''), '0')::smallint,
    to_timestamp(coalesce(nullif(split_part($2, ' ', 3), ''), '0')::bigint), split_part($2, ' ', 4))
order by b.stream, b.minutes, b.at, b.mailbox_provider limit $3
