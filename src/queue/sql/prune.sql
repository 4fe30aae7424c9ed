-- Bookkeeping that has served its time.
with keys as (delete from postrider.idempotency where expires_at < now()),
     fires as (delete from postrider.cron_fire where fire_at < now() - interval '1 day'),
     blocks as (delete from postrider.block where until < now() - interval '1 day'),
     hints as (delete from postrider.lane_hint where hinted_at < now() - interval '1 day')
delete from postrider.cancellation where done_at < now() - interval '1 day'
