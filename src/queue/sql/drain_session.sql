update postrider.worker_session set state = 'draining' where session_id = $1 and state = 'alive'
