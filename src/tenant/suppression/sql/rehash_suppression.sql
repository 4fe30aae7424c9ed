-- Entries ($1 tenant, $2 address, $3 stream) under another name ($4). One that is there already
-- stays, unless it ends earlier.
with t as materialized (
  select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as t(tenant_id, address, stream, renewed)
), gone as (
  delete from postrider.suppression s using t
  where (s.tenant_id, s.address, s.stream) = (t.tenant_id, t.address, t.stream)
  returning s.*, t.renewed
), one as (
  select distinct on (tenant_id, renewed, stream) * from gone order by tenant_id, renewed, stream, expires_at desc nulls first
)
insert into postrider.suppression(tenant_id, address, stream, reason, source, created_at, expires_at, job_id)
select tenant_id, renewed, stream, reason, source, created_at, expires_at, job_id from one
on conflict (tenant_id, address, stream) do update
set reason = excluded.reason, source = excluded.source, created_at = excluded.created_at,
    expires_at = excluded.expires_at, job_id = excluded.job_id
where suppression.expires_at < coalesce(excluded.expires_at, 'infinity')
