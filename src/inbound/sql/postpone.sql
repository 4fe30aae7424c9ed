-- $1 reports  $2 whether that was one of their tries. A loan ends after 90 s (take.sql): these come
-- again in 30.
update postrider.inbound_report
set taken_at = now() - interval '60 seconds', tries = tries - case when $2 then 0 else 1 end
where report_id = any ($1) and done_at is null
