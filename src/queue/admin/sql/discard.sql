-- Dead letters given up for good, one batch: they end as cancelled.
-- $1 tenant or null  $2 reason or null  $3 message or null  $4 deliveries or null  $5 after this delivery  $6 most  $7 why
with picked as materialized (
  select d.tenant_id, d.job_id
  from postrider.dead_letter d
  where d.job_id > $5 and ($1::bigint is null or d.tenant_id = $1) and ($2::text is null or d.reason = $2)
    and ($3::bigint is null or d.message_id = $3) and ($4::bigint[] is null or d.job_id = any($4))
  order by d.job_id
  limit $6
  for update skip locked
), gone as (
  delete from postrider.dead_letter d using picked p
  where d.tenant_id = p.tenant_id and d.job_id = p.job_id
  returning d.*
), ended as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt, detail)
  select tenant_id, message_id, job_id, attempts, 5, reason = 'doubt',
         json_build_object('class', 'discarded', 'dead_letter', reason, 'reason', $7::text)
  from gone
)
select (select count(*) from picked) as picked, (select count(*) from gone) as done, (select max(job_id) from picked) as last
