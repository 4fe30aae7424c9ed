-- What the worker needs of a message, once for all its deliveries.
select m.content::text as content, m.tenant_id, s.name as stream, t.name as tenant, m.accepted,
       extract(epoch from coalesce(m.send_at, m.created_at))::bigint as dated
from postrider.message m
join postrider.stream s using (stream_id)
join postrider.tenant t on t.tenant_id = m.tenant_id
where m.message_id = $1
