-- The end of a turn of the endpoint $1, if it is still held by $2 (session) under $3 (hold) and its
-- tenant lives here: what it changed is written, or nothing. Whether it was, and whether the
-- endpoint was disabled.
--   $4, $5  the cursor from now on
--   $6      good: it took something; bad: it took nothing of what it was offered; same: neither
--   $7      milliseconds until the next turn   $8 what it said, when bad   $9 it is gone
--   $10     seconds after which a failing endpoint is given up
--   $11, $12 retries that are over (transaction, event)
--   $13-$16 what is to be told again: transaction, event, delivery, milliseconds from now
with mine as materialized (
  select w.webhook_id, w.tenant_id from postrider.webhook w join postrider.tenant t using (tenant_id)
  where w.webhook_id = $1 and w.holder = $2 and w.hold = $3 and t.residence = 'here'
  for update of w
), written as (
  update postrider.webhook w
  set holder = null, held_until = null, at_xid = $4, at_event = $5,
      failures = case $6 when 'good' then 0 when 'bad' then w.failures + 1 else w.failures end,
      failing_since = case $6 when 'good' then null when 'bad' then coalesce(w.failing_since, now()) else w.failing_since end,
      last_error = case $6 when 'good' then null when 'bad' then $8 else w.last_error end,
      last_taken_at = case when $6 = 'good' then now() else w.last_taken_at end,
      next_at = now() + make_interval(secs => $7 / 1000.0),
      state = case when $9 or $6 = 'bad' and w.failing_since < now() - make_interval(secs => $10) then 'disabled' else w.state end,
      disabled_by = case when $9 then 'gone' when $6 = 'bad' and w.failing_since < now() - make_interval(secs => $10)
                    then 'failing' else w.disabled_by end,
      disabled_at = case when $9 or $6 = 'bad' and w.failing_since < now() - make_interval(secs => $10)
                    then now() else w.disabled_at end
  from mine m where w.webhook_id = m.webhook_id
  returning w.webhook_id, w.tenant_id, w.state, w.disabled_by, w.failing_since
), over as (
  delete from postrider.webhook_retry r
  using unnest($11::bigint[], $12::bigint[]) as o(xid, event_id)
  where r.webhook_id = (select webhook_id from mine) and r.xid = o.xid and r.event_id = o.event_id
), again as (
  insert into postrider.webhook_retry as r(tenant_id, webhook_id, xid, event_id, job_id, tries, due_at)
  select m.tenant_id, m.webhook_id, a.xid, a.event_id, a.job_id, 1, now() + make_interval(secs => a.delay_ms / 1000.0)
  from mine m cross join unnest($13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[])
    as a(xid, event_id, job_id, delay_ms)
  on conflict (webhook_id, xid, event_id) do update set tries = r.tries + 1, due_at = excluded.due_at
), told as (
  insert into postrider.event(tenant_id, xid, kind, detail)
  select w.tenant_id, pg_current_xact_id()::text::bigint, 11,
         json_build_object('endpoint', postrider.written_id('whk_', w.webhook_id), 'reason', w.disabled_by,
                           'failing_since', w.failing_since)
  from written w where w.state = 'disabled'
)
select (select count(*) from written) > 0 as written,
       (select disabled_by from written where state = 'disabled') as disabled_by
