-- What reports say of deliveries: evidence for the history, and suppressions. Arrays: $1 report
-- $2 delivery  $3 code  $4 detail (JSON)  $5 whom it names or null  $6 the address before that or
-- null  $7 why to suppress, or null  $8 how the list names the recipient  $9 class of a failure
-- that counts towards a suppression, or null. A delivery whose tenant is on the move is left alone
-- (here: false). Written twice, it is there once. Suppressed is the recipient that we wrote to,
-- and only if the report names no other; who unsubscribes leaves the stream of that mail.
with f as materialized (
  select *
  from unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
    as f(report_id, job_id, code, detail, recipient, original, suppress, listed, soft)
), j as materialized (
  select f.report_id, f.job_id, f.code, f.detail, f.suppress, f.listed, f.soft, j.tenant_id, j.message_id, l.stream_id,
         t.residence = 'here' as here,
         coalesce(f.recipient is null or lower(j.recipient) = f.recipient or lower(j.recipient) = f.original, false) as same
  from f join postrider.job j using (job_id) join postrider.tenant t using (tenant_id)
  left join postrider.lane l using (lane_id)
), history as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt, code, detail)
  select j.tenant_id, j.message_id, j.job_id,
         coalesce((select max(a.attempt) from postrider.attempt a
                   where a.message_id = j.message_id and a.kind = any('{1,2,3,4,5,6,7,8}'::smallint[]) and a.job_id = j.job_id), 0),
         9, false, j.code, j.detail::json
  from j
  where j.here and not exists (
    select 1 from postrider.attempt a
    where a.message_id = j.message_id and a.kind = 9 and a.job_id = j.job_id
      and a.detail ->> 'report' = j.detail::json ->> 'report' and a.detail ->> 'finding' = j.detail::json ->> 'finding')
), condemned as (
  insert into postrider.suppression(tenant_id, address, stream, reason, source, job_id)
  select distinct on (tenant_id, listed, stream) tenant_id, listed, stream, suppress, source, job_id
  from (
    select j.tenant_id, j.listed, j.suppress, j.job_id,
           case j.suppress when 'unsubscribed' then 'recipient' else 'report' end as source,
           case j.suppress when 'unsubscribed' then coalesce(s.name, '') else '' end as stream
    from j left join postrider.stream s using (stream_id)
    where j.here and j.suppress is not null and j.same and j.listed is not null) c
  order by tenant_id, listed, stream
  on conflict (tenant_id, address, stream) do update
  set reason = excluded.reason, source = excluded.source, created_at = now(), expires_at = null, job_id = excluded.job_id
  where suppression.expires_at is not null
)
select report_id, here,
       (here and suppress is not null and same)
         or (here and same and soft is not null and listed is not null
             and postrider.soft_failure(tenant_id, listed, job_id, soft, true)) as suppressed
from (select * from j order by tenant_id, listed) j
