-- Holds up to $2 deliveries that a session had in hand, of one generation, as dead letters in
-- doubt: the database came from a backup, and they may have been sent after it was made. $1 when
-- what is lost ends  $3 why, for the history
with picked as materialized (
  select x.ctid as tid from postrider.lease_g{g} x limit $2 for update skip locked
), gone as (
  delete from postrider.lease_g{g} x where x.ctid = any (array(select tid from picked))
  returning x.tenant_id, x.job_id, x.lane_id, x.attempt as attempt, x.hold
), known as materialized (
  select g.*, j.message_id, j.recipient, j.payload,
         json_build_object('cause', 'the database was restored from a backup: it may have been sent since',
                           'lost_until', $1::timestamptz, 'reason', $3::text) as detail
  from gone g join postrider.job j using (job_id)
), history as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt, detail)
  select tenant_id, message_id, job_id, attempt, 6, true, detail from known
), dead as (
  insert into postrider.dead_letter(tenant_id, job_id, message_id, lane_id, attempts, hold, reason, detail, recipient, payload)
  select tenant_id, job_id, message_id, lane_id, attempt, hold, 'doubt', detail::text, recipient, payload from known
)
select count(*) from known
