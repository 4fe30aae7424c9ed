-- Takes endpoints for a turn: $1 session  $2 seconds it may last  $3 most of those that work
-- $4 most of those that fail. Where there is something to tell, its time has come, and nobody
-- who lives holds it.
with due as materialized (
  select w.webhook_id, w.failures > 0 as failing, w.next_at
  from postrider.webhook w
  join postrider.tenant t using (tenant_id)
  where w.state = 'active' and w.next_at <= now() and t.residence = 'here'
    and (w.holder is null or w.held_until < now() or not exists (
           select 1 from postrider.worker_session s where s.session_id = w.holder and s.state <> 'fenced'))
    and (exists (select 1 from postrider.event e
                 where e.tenant_id = w.tenant_id and (e.xid, e.event_id) > (w.at_xid, w.at_event)
                   and e.xid < postrider.event_horizon())
         or exists (select 1 from postrider.webhook_retry r where r.webhook_id = w.webhook_id and r.due_at <= now()))
), chosen as (
  (select webhook_id from due where not failing order by next_at limit $3)
  union all
  (select webhook_id from due where failing order by next_at limit $4)
), free as materialized (
  select w.webhook_id from postrider.webhook w
  where w.webhook_id in (select webhook_id from chosen) and w.state = 'active' and w.next_at <= now()
    and (w.holder is null or w.held_until < now() or not exists (
           select 1 from postrider.worker_session s where s.session_id = w.holder and s.state <> 'fenced'))
  for update skip locked
)
update postrider.webhook w
set holder = $1, held_until = now() + make_interval(secs => $2), hold = w.hold + 1
from free f
where w.webhook_id = f.webhook_id
returning w.webhook_id, w.tenant_id, w.hold, w.url, w.kinds, w.batch, w.in_flight, w.per_second,
          w.at_xid, w.at_event, w.failures,
          array(select s.sealed from postrider.webhook_secret s
                where s.webhook_id = w.webhook_id and (s.retire_at is null or s.retire_at > now())
                order by s.secret_id desc limit 5) as secrets
