-- The log of the tenant $1 after ($2 transaction, $3 event), at most $4 rows of it; $5 kinds that
-- are wanted (null: all): of the others only the place is given. Nothing at or beyond the oldest
-- transaction that still runs: something before it might commit yet.
with page as materialized (
  select e.*, ($5::smallint[] is null or e.kind = any ($5)) as wanted
  from postrider.event e
  where e.tenant_id = $1 and (e.xid, e.event_id) > ($2, $3) and e.xid < postrider.event_horizon()
  order by e.xid, e.event_id limit $4
)
select p.xid, p.event_id, p.wanted, p.kind, p.in_doubt, p.attempt, p.code, p.message_id, p.job_id, p.next_at,
       case when p.wanted then coalesce(p.address,
         (select j.recipient from postrider.job j where j.job_id = p.job_id)) end as recipient,
       case when p.wanted then
         (select s.name from postrider.message m join postrider.stream s using (stream_id)
          where m.message_id = p.message_id) end as stream,
       case when p.wanted then p.detail::text end as detail
from page p
order by p.xid, p.event_id
