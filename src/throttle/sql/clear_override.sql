-- $1 scope, $2 tenant, $3 mailbox provider, $4 source, $5 route. A row if it was in force.
delete from postrider.throttle_override
where scope = $1 and tenant = $2 and mailbox_provider = $3 and source = $4 and route = $5
returning until > now()
