-- The oldest messages of the tenant $1, which lives elsewhere: at most $2.
select message_id from postrider.message
where tenant_id = $1 and exists (select 1 from postrider.tenant where tenant_id = $1 and residence in ('left', 'arriving'))
order by message_id limit $2
