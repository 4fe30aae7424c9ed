-- $1 name  $2 state. The block keeps the claimers off what already waits; it goes
-- with the suspension, so a pause that an operator set meanwhile must be set again.
with changed as (
  update postrider.tenant set state = $2 where name = $1 and residence = 'here'
  returning tenant_id, name, state, weight, time_zone, created_at
), blocked as (
  insert into postrider.block(scope, key, until, reason)
  select 'T', tenant_id::text, now() + interval '100 years', 'suspended' from changed where state = 'suspended'
  on conflict (scope, key) do update set until = excluded.until, reason = excluded.reason, holder = 'operator'
), freed as (
  delete from postrider.block b using changed c
  where c.state = 'active' and b.scope = 'T' and b.key = c.tenant_id::text and b.reason = 'suspended'
)
select * from changed
