-- What reports say of deliveries: evidence for the history, and suppressions. Arrays: $1 report
-- $2 delivery  $3 code  $4 detail (JSON)  $5 whom it names or null  $6 the address before that or
-- null  $7 why to suppress, or null. A delivery whose tenant is on the move is left alone
-- (here: false). Written twice, it is there once. Suppressed is the recipient that we wrote to,
-- and only if the report names no other. Nothing of a delivery is older than itself, so older days
-- of the history are not looked at.
with f as materialized (
  select *
  from unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[])
    as f(report_id, job_id, code, detail, recipient, original, suppress)
), j as materialized (
  select f.report_id, f.job_id, f.code, f.detail::json as detail, f.suppress, j.tenant_id, j.message_id, j.recipient as address,
         t.residence = 'here' as here,
         coalesce(f.recipient is null or lower(j.recipient) = f.recipient or lower(j.recipient) = f.original, false) as same
  from f join postrider.job j using (job_id) join postrider.tenant t using (tenant_id)
), history as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt, code, detail)
  select j.tenant_id, j.message_id, j.job_id, coalesce(h.attempts, 0), 9, false, j.code, j.detail
  from j
  cross join lateral (
    select max(a.attempt) filter (where a.kind <= 8) as attempts,
           bool_or(a.kind = 9 and a.detail ->> 'report' = j.detail ->> 'report'
                   and a.detail ->> 'finding' = j.detail ->> 'finding') as told
    from postrider.attempt a
    where a.message_id = j.message_id and a.kind = any('{1,2,3,4,5,6,7,8,9}'::smallint[]) and a.job_id = j.job_id
      and a.at >= to_timestamp(1577836800 + (j.job_id >> 22) / 1000.0) - interval '1 day') h
  where j.here and h.told is not true
), condemned as (
  -- In order, so that two who do this at once never wait for each other.
  insert into postrider.suppression(tenant_id, address, reason, source)
  select distinct tenant_id, address, suppress, case suppress when 'unsubscribed' then 'recipient' else 'report' end
  from j where here and suppress is not null and same
  order by 1, 2, 3
  on conflict do nothing
)
select report_id, here, here and suppress is not null and same as suppressed from j
