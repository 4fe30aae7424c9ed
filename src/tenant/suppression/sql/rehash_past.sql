-- Lines of the past ($1 tenant, $2 address, $3 number) under another name ($4).
with t as materialized (
  select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as t(tenant_id, address, past_id, renewed)
), gone as (
  delete from postrider.suppression_past p using t
  where (p.tenant_id, p.address, p.past_id) = (t.tenant_id, t.address, t.past_id::bigint)
  returning p.*, t.renewed
)
insert into postrider.suppression_past(past_id, tenant_id, address, stream, reason, source, created_at, expires_at, removed_at, removed_by, removal)
select past_id, tenant_id, renewed, stream, reason, source, created_at, expires_at, removed_at, removed_by, removal from gone
