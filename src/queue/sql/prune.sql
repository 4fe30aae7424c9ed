-- Bookkeeping that has served its time, at most $1 rows of each.
with keys as (
  delete from postrider.idempotency i using (
    select tenant_id, key_hash from postrider.idempotency where expires_at < now() limit $1) old
  where (i.tenant_id, i.key_hash) = (old.tenant_id, old.key_hash)
  returning 1
), chunks as (
  -- A message takes recipients for 60 days at most (30 until it is sent, 30 until it expires).
  delete from postrider.upload_chunk where ctid = any (array(
    select ctid from postrider.upload_chunk where message_id < postrider.id_floor(now() - interval '61 days') limit $1))
  returning 1
), fires as (
  delete from postrider.cron_fire where fire_at < now() - interval '1 day'
), blocks as (
  delete from postrider.block where until < now() - interval '1 day'
), detours as (
  delete from postrider.route_override where until < now() - interval '1 day'
), cancellations as (
  -- What was in hand when its message was called back may come again until it expires.
  delete from postrider.cancellation c
  where c.done_at < now() - interval '1 day'
    and not exists (select 1 from postrider.message m where m.message_id = c.message_id and m.expires_at > now() - interval '1 day')
, evidence as (
  delete from postrider.late_outcome where ctid = any (array(
    select ctid from postrider.late_outcome where at < now() - interval '60 days' limit $1))
)
select greatest((select count(*) from keys), (select count(*) from chunks))
