-- $1 most  $2 tries. A loan of 90 s, longer than any step: whoever dies with it has it taken by another.
with free as materialized (
  select report_id from postrider.inbound_report
  where done_at is null and tries < $2 and (taken_at is null or taken_at < now() - interval '90 seconds')
  order by report_id limit $1 for update skip locked
)
update postrider.inbound_report r set tries = r.tries + 1, taken_at = now()
from free where r.report_id = free.report_id
returning r.report_id, r.purpose, r.job_id, r.sender, r.raw, r.tries, r.event_key
