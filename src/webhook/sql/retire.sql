-- The secrets of the endpoint $1 go on for $2 seconds at most; those that are over go.
with gone as (
  delete from postrider.webhook_secret where webhook_id = $1 and retire_at < now()
)
update postrider.webhook_secret set retire_at = now() + make_interval(secs => $2)
where webhook_id = $1 and retire_at is null
