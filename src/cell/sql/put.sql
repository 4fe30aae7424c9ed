-- Rows of {table} as JSON ($1) for the arriving tenant $2. Those that are there already stay:
-- a copy that broke off is simply made again.
with arriving as materialized (
  select 1 from postrider.tenant where tenant_id = $2 and residence = 'arriving' for share
)
insert into postrider.{table} {overriding}
select r.* from unnest($1::text[]) u(line)
cross join lateral json_populate_record(null::postrider.{table}, u.line::json) r
where exists (select 1 from arriving)
on conflict do nothing
