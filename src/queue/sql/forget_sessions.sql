-- Sessions fenced long ago that hold nothing (a claim can commit just after the fence, so not at once).
delete from postrider.worker_session s
where s.state = 'fenced' and s.beat_at < now() - interval '5 minutes'
  and not exists (select 1 from postrider.lease l where l.session_id = s.session_id)
