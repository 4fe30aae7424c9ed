-- A new endpoint of the tenant $1 that reads from ($8, $9) on; none where it has $10 already.
insert into postrider.webhook(tenant_id, url, description, kinds, batch, in_flight, per_second, at_xid, at_event)
select $1, $2, $3, $4::smallint[], $5, $6, $7, $8, $9
where (select count(*) from postrider.webhook where tenant_id = $1) < $10
returning webhook_id
