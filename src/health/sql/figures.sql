-- Arrays: $1 tenant  $2 stream  $3 windows in seconds. Sums for each window, of each mailbox
-- provider and (null) of all. What was sent before an operator let the stream go is left out;
-- of the minute, or later the hour, in which that was, everything is.
select t.tenant_id, t.name as tenant, b.stream, w.number as window_number, b.mailbox_provider,
       sum(b.sent)::bigint as sent, sum(b.bounced)::bigint as bounced, sum(b.refused)::bigint as refused,
       sum(b.complained)::bigint as complained
from unnest($1::bigint[], $2::text[]) as s(tenant_id, stream)
join postrider.tenant t using (tenant_id)
left join postrider.health_stream h on h.tenant_id = s.tenant_id and h.stream = s.stream
cross join unnest($3::float8[]) with ordinality as w(seconds, number)
join postrider.health_bucket b
  on b.tenant_id = s.tenant_id and b.stream = s.stream and b.minutes in (1, 60)
  and b.at > greatest(now() - make_interval(secs => w.seconds), h.counted_from)
group by grouping sets ((t.tenant_id, t.name, b.stream, w.number), (t.tenant_id, t.name, b.stream, w.number, b.mailbox_provider))
order by t.tenant_id, b.stream, w.number, b.mailbox_provider nulls first
