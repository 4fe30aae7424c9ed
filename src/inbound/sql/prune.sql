-- $1 seconds  $2 most  $3 tries
with given_up as (
  update postrider.inbound_report set done_at = now(), outcome = 'failed'
  where done_at is null and tries >= $3 and taken_at < now() - interval '90 seconds'
)
delete from postrider.inbound_report where report_id in (
  select report_id from postrider.inbound_report
  where done_at < now() - make_interval(secs => $1) order by done_at limit $2 for update skip locked)
