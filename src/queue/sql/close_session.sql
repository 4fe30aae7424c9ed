-- The session is over: whatever it should still hold (a claim may commit after this
-- statement looked) is the rescue's. Forgotten later, when it holds nothing.
update postrider.worker_session set state = 'fenced', beat_at = now() where session_id = $1
