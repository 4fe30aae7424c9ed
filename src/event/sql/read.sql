-- The log of the tenant $1 after ($2 transaction, $3 event), at most $4 rows of it; $5 kinds that
-- are wanted (null: all): of the others only the place is given. Nothing at or beyond the oldest
-- transaction that still runs: something before it might commit yet.
--
-- Recipients of deliveries and names of streams are looked up for the whole page at once
-- (recipients.sql, streams.sql): row by row that cost as much again as the page.
select e.xid, e.event_id, w.wanted, e.kind, e.in_doubt, e.attempt, e.code, e.message_id, e.job_id, e.next_at,
       e.address as recipient, null::text as stream, case when w.wanted then e.detail::text end as detail
from postrider.event e
cross join lateral (select $5::smallint[] is null or e.kind = any ($5) as wanted) w
where e.tenant_id = $1 and (e.xid, e.event_id) > ($2, $3) and e.xid < postrider.event_horizon()
order by e.xid, e.event_id limit $4
