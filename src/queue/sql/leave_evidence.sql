-- Outcomes that came too late: their leases belong to others. Arrays: $1 job, $2 hold, $3 kind,
-- $4 code, $5 detail (JSON). Nothing is left for what has ended (an outcome that is written
-- again because the first answer was lost is no news).
insert into postrider.late_outcome(tenant_id, job_id, hold, kind, code, detail)
select j.tenant_id, d.job_id, d.hold, d.kind, d.code, d.detail::json
from unnest($1::bigint[], $2::int[], $3::smallint[], $4::smallint[], $5::text[]) as d(job_id, hold, kind, code, detail)
join postrider.job j using (job_id)
where not exists (
  select 1 from postrider.attempt a
  where a.message_id = j.message_id and a.kind in (1, 2, 3, 4, 5) and a.job_id = d.job_id)
on conflict do nothing
