-- What the endpoint $1 is told again now, at most $2: of each delivery the first only. An event
-- whose day was dropped has no kind.
select r.xid, r.event_id, r.tries, extract(epoch from now() - r.since)::float8 as age, r.job_id,
       e.kind, coalesce(e.in_doubt, false) as in_doubt, e.attempt, e.code, e.message_id, e.next_at,
       coalesce(e.address, (select j.recipient from postrider.job j where j.job_id = e.job_id)) as recipient,
       (select s.name from postrider.message m join postrider.stream s using (stream_id)
        where m.message_id = e.message_id) as stream,
       e.detail::text as detail
from (
  select r.* from postrider.webhook_retry r
  where r.webhook_id = $1 and r.due_at <= now() and not exists (
    select 1 from postrider.webhook_retry b
    where b.webhook_id = $1 and b.job_id = r.job_id and (b.xid, b.event_id) < (r.xid, r.event_id))
  order by r.due_at limit $2
) r
left join postrider.event e on e.tenant_id = r.tenant_id and e.xid = r.xid and e.event_id = r.event_id
order by r.xid, r.event_id
