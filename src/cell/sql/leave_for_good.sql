-- $1 tenant  $2 where to. The commit point of a move: this cell never again claims for it.
with gone as (
  update postrider.tenant set residence = 'left'
  where tenant_id = $1 and bound_for = $2 and residence = 'leaving'
  returning tenant_id
)
select count(*) from gone
