-- The endpoint $2 of the tenant $1 reads from ($3, $4) on again, if it was further. A turn under way may
-- have told what its cursor does not show yet, so it ends without effect. What the endpoint is told
-- again on its own account comes by that way too.
with back as (
  update postrider.webhook
  set at_xid = case when (at_xid, at_event) > ($3, $4) then $3 else at_xid end,
      at_event = case when (at_xid, at_event) > ($3, $4) then $4 else at_event end,
      next_at = now(), hold = hold + 1, holder = null, held_until = null
  where tenant_id = $1 and webhook_id = $2 and ((at_xid, at_event) > ($3, $4) or holder is not null)
  returning webhook_id
)
delete from postrider.webhook_retry r using back b
where r.webhook_id = b.webhook_id and (r.xid, r.event_id) > ($3, $4)
