-- Fences sessions that were silent for $1 seconds. Not when the database itself has just
-- come up: then nobody could beat, and everyone would be fenced at once.
update postrider.worker_session set state = 'fenced'
where state <> 'fenced' and beat_at < now() - make_interval(secs => $1)
  and pg_postmaster_start_time() < now() - make_interval(secs => 2 * $1)
returning session_id
