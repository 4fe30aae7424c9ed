-- Endpoints by state; of the active ones how old the oldest event is that is not told yet, and how
-- many there are: at most 10,000 of each endpoint are counted.
select count(*) filter (where w.state = 'active') as active,
       count(*) filter (where w.state = 'active' and w.failures > 0) as failing,
       count(*) filter (where w.state = 'disabled') as disabled,
       greatest(coalesce(max(l.seconds) filter (where w.state = 'active'), 0), 0)::float8 as lag_seconds,
       coalesce(sum(l.pending) filter (where w.state = 'active'), 0)::bigint as pending,
       (select count(*) from (select 1 from postrider.webhook_retry limit 100000) r) as retries
from postrider.webhook w
left join lateral (
  select count(*) as pending,
         date_part('epoch', now()) - 1577836800 - (min(p.event_id) >> 22) / 1000.0 as seconds
  from (select e.event_id from postrider.event e
        where w.state = 'active' and e.tenant_id = w.tenant_id and (e.xid, e.event_id) > (w.at_xid, w.at_event)
        order by e.xid, e.event_id limit 10000) p
) l on true
