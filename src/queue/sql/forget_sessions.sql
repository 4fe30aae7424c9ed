-- Sessions fenced long ago that hold nothing (a claim can commit just after the fence, so not
-- at once), and the intents that nobody needs any more.
with over as materialized (
  select s.session_id from postrider.worker_session s
  where s.state = 'fenced' and s.beat_at < now() - interval '5 minutes'
    and not exists (select 1 from postrider.lease l where l.session_id = s.session_id)
), intents as (
  delete from postrider.intent where session_id in (select session_id from over)
)
delete from postrider.worker_session where session_id in (select session_id from over)
