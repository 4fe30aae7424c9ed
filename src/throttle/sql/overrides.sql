-- The overrides in force.
select scope, tenant, mailbox_provider, source, route, rates, burst, concurrency, reason, actor,
       to_char(until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as until,
       to_char(set_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as set_at
from postrider.throttle_override where until > now()
order by scope, tenant, mailbox_provider, source, route
