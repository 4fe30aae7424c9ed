-- What is held back of the tenant $1, but for the move itself.
select b.scope, b.key, b.until, b.reason from postrider.block b
where b.until > now() and b.reason <> 'moving to another cell'
  and (b.scope = 'T' and b.key = $1
    or b.scope = 'S' and b.key in (select stream_id from postrider.stream where tenant_id = $1)
    or b.scope = 'L' and b.key in (select lane_id from postrider.lane where tenant_id = $1))
