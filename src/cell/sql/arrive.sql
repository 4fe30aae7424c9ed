-- $1 tenant  $2 where from: it lives here now.
with arrived as (
  update postrider.tenant set residence = 'here', bound_for = null
  where tenant_id = $1 and residence = 'arriving' and $2::smallint is not null
  returning tenant_id
), told as (
  -- Daemons may know it from an earlier stay.
  update postrider.directory set version = version + 1 where exists (select 1 from arrived)
)
select count(*) from arrived
