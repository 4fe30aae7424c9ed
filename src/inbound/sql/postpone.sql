-- $1 reports. A loan ends after five minutes (take.sql).
update postrider.inbound_report set taken_at = now() - interval '4 minutes 30 seconds'
where report_id = any ($1) and done_at is null
