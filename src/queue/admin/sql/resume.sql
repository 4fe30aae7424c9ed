-- $1 scope  $2 key. Hints make the claimers look at the freed lanes at once.
with gone as (
  delete from postrider.block b
  where b.scope = $1 and b.key = $2 and (b.reason <> 'suspended' or b.scope <> 'T')
  returning b.scope, b.key
), hinted as (
  update postrider.lane_hint set hinted_at = clock_timestamp()
  where lane_id in (
    select h.lane_id from postrider.lane_hint h
    join postrider.lane l using (lane_id)
    join gone g on g.key = case g.scope when 'T' then l.tenant_id when 'P' then l.pool_id when 'S' then l.stream_id else l.lane_id end
    order by 1 for update of h skip locked)
)
select exists (select 1 from gone),
       exists (select 1 from postrider.block b where b.scope = 'T' and b.scope = $1 and b.key = $2 and b.reason = 'suspended')
