-- Arrays: $1 report  $2 kind  $3 outcome  $4 findings (JSON).
update postrider.inbound_report r
set done_at = now(), taken_at = null, kind = d.kind, outcome = d.outcome, findings = d.findings::json
from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as d(report_id, kind, outcome, findings)
where r.report_id = d.report_id and r.done_at is null
