-- $1 scope  $2 key. Hints make the claimers look at the freed lanes at once.
with gone as (
  delete from postrider.block b
  where b.scope = $1 and b.key = $2 and (b.reason <> 'suspended' or b.scope <> 'T')
  returning b.scope, b.key
), hinted as (
  insert into postrider.lane_hint(lane_id)
  select l.lane_id from postrider.lane l, gone g
  where g.key = case g.scope when 'T' then l.tenant_id when 'P' then l.pool_id when 'S' then l.stream_id else l.lane_id end
  order by 1
  on conflict (lane_id) do update set hinted_at = now()
)
select exists (select 1 from gone),
       exists (select 1 from postrider.block b where b.scope = 'T' and b.scope = $1 and b.key = $2 and b.reason = 'suspended')
