-- $1 tenant  $2 where it was to go: it stays after all.
with kept as (
  update postrider.tenant set residence = 'here', bound_for = null
  where tenant_id = $1 and bound_for = $2 and residence = 'leaving'
  returning tenant_id
), freed as (
  delete from postrider.block b using kept k
  where b.scope = 'T' and b.key = k.tenant_id::text and b.reason = 'moving to another cell'
)
select count(*) from kept
