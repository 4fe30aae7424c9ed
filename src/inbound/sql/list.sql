-- $1 delivery or null  $2 before this report  $3 most
select report_id, received_at, purpose, job_id, sender, peer, octet_length(raw) as size, done_at, kind, outcome,
       findings::text as findings
from postrider.inbound_report
where report_id < $2 and ($1::bigint is null or job_id = $1)
order by report_id desc limit $3
