-- $1 name  $2 weight or null  $3 time zone or null. The version makes the daemons read their directory again.
with changed as (
  update postrider.tenant set weight = coalesce($2, weight), time_zone = coalesce($3, time_zone)
  where name = $1 and residence = 'here'
  returning tenant_id, name, state, weight, time_zone, created_at
), told as (
  update postrider.directory set version = version + 1 where exists (select 1 from changed)
)
select * from changed
