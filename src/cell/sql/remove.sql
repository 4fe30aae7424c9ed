-- At most $2 rows of {table} of the tenant $1, which lives elsewhere.
delete from postrider.{table}
where tenant_id = $1
  and ctid = any (array(select ctid from postrider.{table} where tenant_id = $1 limit $2))
  and exists (select 1 from postrider.tenant where tenant_id = $1 and residence in ('left', 'arriving'))
