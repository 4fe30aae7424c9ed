-- $1 tenant  $2 where to. From here on nothing new is accepted (the triggers see it), and the
-- claimers look elsewhere; a pause or a suspension that is there already does the same.
with held as (
  update postrider.tenant set residence = 'leaving', bound_for = $2
  where tenant_id = $1 and residence = 'here'
  returning tenant_id
), blocked as (
  insert into postrider.block(scope, key, until, reason)
  select 'T', tenant_id::text, now() + interval '100 years', 'moving to another cell' from held
  on conflict (scope, key) do nothing
)
select count(*) from held
