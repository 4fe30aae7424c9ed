-- Counts ($1 tenant, $2 address) under another name ($4); $3 is not used. Of two counts the
-- longer one stays.
with t as materialized (
  select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as t(tenant_id, address, nothing, renewed)
), gone as (
  delete from postrider.soft_bounce b using t
  where (b.tenant_id, b.address) = (t.tenant_id, t.address)
  returning b.*, t.renewed
), one as (
  select distinct on (tenant_id, renewed) * from gone order by tenant_id, renewed, days desc
)
insert into postrider.soft_bounce(tenant_id, address, days, class, by_report, first_at, last_at)
select tenant_id, renewed, days, class, by_report, first_at, last_at from one
on conflict (tenant_id, address) do nothing
