-- What reports and callbacks say of deliveries: evidence for the history. Arrays: $1 report
-- $2 delivery  $3 code  $4 detail (JSON)  $5 whom it names or null  $6 the address before that or
-- null  $7 why to suppress, or null  $8 who says so  $9 how the list names the recipient  $10 class
-- of a failure that counts towards a suppression, or null. A delivery whose tenant is on the move is
-- left alone (here: false). Written twice, it is there once; an event of a provider is known by its
-- own key, also when it is stored once more. Condemned is the recipient that we wrote to, and only
-- if the report names no other; who unsubscribes leaves the stream of that mail. Nothing of a
-- delivery is older than itself, so older days of the history are not looked at.
with f as materialized (
  select *
  from unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[])
    as f(report_id, job_id, code, detail, recipient, original, suppress, source, listed, soft)
), j as materialized (
  select f.report_id, f.job_id, f.code, f.detail::json as detail, f.suppress, f.source, f.listed, f.soft,
         j.tenant_id, j.message_id, l.stream_id, t.residence = 'here' as here,
         coalesce(f.recipient is null or lower(j.recipient) = f.recipient or lower(j.recipient) = f.original, false) as same
  from f join postrider.job j using (job_id) join postrider.tenant t using (tenant_id)
  left join postrider.lane l using (lane_id)
), history as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt, code, detail)
  select j.tenant_id, j.message_id, j.job_id, coalesce(h.attempts, 0), 9, false, j.code,
         case when same then j.detail else (j.detail::jsonb || '{"recipient_is_other": true}')::json end
  from j
  cross join lateral (
    select max(a.attempt) filter (where a.kind <= 8) as attempts,
           bool_or(a.kind = 9 and a.detail ->> 'finding' = j.detail ->> 'finding'
                   and coalesce(a.detail ->> 'event', a.detail ->> 'report')
                       = coalesce(j.detail ->> 'event', j.detail ->> 'report')) as told
    from postrider.attempt a
    where a.message_id = j.message_id and a.kind = any('{1,2,3,4,5,6,7,8,9}'::smallint[]) and a.job_id = j.job_id
      and a.at >= to_timestamp(1577836800 + (j.job_id >> 22) / 1000.0) - interval '1 day') h
  where j.here and h.told is not true
)
select j.report_id, j.here, j.tenant_id, j.job_id, j.listed, j.suppress, j.source,
       case j.suppress when 'unsubscribed' then coalesce(s.name, '') else '' end as stream,
       j.here and j.suppress is not null and j.same and j.listed is not null as condemned,
       j.here and j.same and j.soft is not null and j.listed is not null
         and postrider.soft_failure(j.tenant_id, j.listed, j.job_id, j.soft, true) as failed_often
from (select * from j order by tenant_id, listed) j left join postrider.stream s using (stream_id)
