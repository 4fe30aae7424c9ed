-- $1 tenant: is told nothing more, unless an endpoint of it waits for events. Whether that is so now.
with off as (
  update postrider.event_tenant set enabled = false
  where tenant_id = $1 and not exists (select 1 from postrider.webhook w where w.tenant_id = $1)
  returning 1
)
select exists (select 1 from off) or not exists (select 1 from postrider.event_tenant where tenant_id = $1)
