-- The row is the right to run.
insert into postrider.cron_fire(task, fire_at, session_id) values ($1, $2, $3) on conflict do nothing
