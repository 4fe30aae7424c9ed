-- $1 address  $2 reason  $3 source
-- The first reason stays.
insert into postrider.suppression(tenant_id, address, reason, source)
values (postrider.current_tenant(), $1, $2, $3)
on conflict do nothing
