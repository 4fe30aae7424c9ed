-- $1 session. No row: this session is fenced.
update postrider.worker_session set beat_at = now()
where session_id = $1 and state <> 'fenced'
