-- Arrays: $1 tenant  $2 stream  $3 windows in seconds, shortest first. Sums for each window, of each
-- mailbox provider and (null) of all. What was sent before an operator let the stream go is left
-- out; of the minute, or later the hour, in which that was, everything is. Buckets are read once: each
-- belongs to the shortest window that reaches it, and to all longer ones.
with sums as materialized (
  select s.tenant_id, s.stream, x.*
  from unnest($1::bigint[], $2::text[]) as s(tenant_id, stream)
  left join postrider.health_stream h on h.tenant_id = s.tenant_id and h.stream = s.stream
  cross join lateral (
    select b.mailbox_provider, width_bucket(extract(epoch from now() - b.at)::float8, $3::float8[]) as beyond,
           sum(b.sent) as sent, sum(b.bounced) as bounced, sum(b.refused) as refused, sum(b.complained) as complained
    from postrider.health_bucket b
    where b.tenant_id = s.tenant_id and b.stream = s.stream and (h.counted_from is null or b.at > h.counted_from)
    group by 1, 2) x
)
select t.tenant_id, t.name as tenant, b.stream, w.number as window_number, b.mailbox_provider,
       sum(b.sent)::bigint as sent, sum(b.bounced)::bigint as bounced, sum(b.refused)::bigint as refused,
       sum(b.complained)::bigint as complained
from sums b
join postrider.tenant t using (tenant_id)
join unnest($3::float8[]) with ordinality as w(seconds, number) on b.beyond < w.number
group by grouping sets ((t.tenant_id, t.name, b.stream, w.number), (t.tenant_id, t.name, b.stream, w.number, b.mailbox_provider))
order by t.tenant_id, b.stream, w.number, b.mailbox_provider nulls first
