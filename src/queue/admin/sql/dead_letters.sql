-- $1 tenant or null  $2 reason or null  $3 message or null  $4 deliveries or null  $5 after this delivery  $6 most
select d.job_id, d.message_id, t.name as tenant, s.name as stream, p.name as mailbox_provider,
       d.attempts, d.reason, d.detail, d.dead_at, d.recipient, d.payload
from postrider.dead_letter d
join postrider.tenant t using (tenant_id)
left join postrider.lane l using (lane_id)
left join postrider.stream s using (stream_id)
left join postrider.pool p using (pool_id)
where d.job_id > $5 and ($1::bigint is null or d.tenant_id = $1) and ($2::text is null or d.reason = $2)
  and ($3::bigint is null or d.message_id = $3) and ($4::bigint[] is null or d.job_id = any($4))
order by d.job_id
limit $6
