-- Suppressions that reports call for, after the history told of it. Arrays: $1 tenant  $2 how the
-- list names the recipient  $3 stream ('': all)  $4 reason  $5 who says so  $6 delivery. Who is on
-- the list for ever keeps the first reason.
insert into postrider.suppression(tenant_id, address, stream, reason, source, job_id)
select distinct on (tenant_id, address, stream) tenant_id, address, stream, reason, source, job_id
from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) with ordinality
  as f(tenant_id, address, stream, reason, source, job_id, n)
-- In order, so that two who do this at once never wait for each other.
order by tenant_id, address, stream, n
on conflict (tenant_id, address, stream) do update
set reason = excluded.reason, source = excluded.source, created_at = now(), expires_at = null, job_id = excluded.job_id
where suppression.expires_at is not null
