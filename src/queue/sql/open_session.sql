insert into postrider.worker_session(worker) values ($1) returning session_id
