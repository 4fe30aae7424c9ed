-- What reports and callbacks say of deliveries: evidence for the history, and suppressions. Arrays:
-- $1 report  $2 delivery  $3 code  $4 detail (JSON)  $5 whom it names or null  $6 the address before
-- that or null  $7 why to suppress, or null  $8 who says so. A delivery whose tenant is on the move
-- is left alone (here: false). Written twice, it is there once; an event of a provider is known by
-- its own key, also when it is stored once more. Suppressed is the recipient that we wrote to, and
-- only if the report names no other.
with f as materialized (
  select *
  from unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
    as f(report_id, job_id, code, detail, recipient, original, suppress, source)
), j as materialized (
  select f.report_id, f.job_id, f.code, f.detail, f.suppress, f.source, j.tenant_id, j.message_id, j.recipient as address,
         t.residence = 'here' as here,
         coalesce(f.recipient is null or lower(j.recipient) = f.recipient or lower(j.recipient) = f.original, false) as same
  from f join postrider.job j using (job_id) join postrider.tenant t using (tenant_id)
), history as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt, code, detail)
  select j.tenant_id, j.message_id, j.job_id,
         coalesce((select max(a.attempt) from postrider.attempt a
                   where a.message_id = j.message_id and a.kind = any('{1,2,3,4,5,6,7,8}'::smallint[]) and a.job_id = j.job_id), 0),
         9, false, j.code,
         case when same then j.detail::json else (j.detail::jsonb || '{"recipient_is_other": true}')::json end
  from j
  where j.here and not exists (
    select 1 from postrider.attempt a
    where a.message_id = j.message_id and a.kind = 9 and a.job_id = j.job_id
      and coalesce(a.detail ->> 'event', a.detail ->> 'report') = coalesce(j.detail::json ->> 'event', j.detail::json ->> 'report')
      and a.detail ->> 'finding' = j.detail::json ->> 'finding')
)
select report_id, here, here and suppress is not null and same as suppressed,
       tenant_id, address, suppress, source
from j
