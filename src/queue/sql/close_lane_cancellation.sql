-- Forgets the cancellation of lane $1 up to $2 when none of its deliveries can come again: in
-- one snapshot none waits, is deferred, is in hand, or is on the move to or from another cell.
-- Else it is looked at again after $3 seconds.
with left_over as (
  select exists (select 1 from postrider.lease l where l.lane_id = $1 and l.job_id <= $2)
      or exists (select 1 from postrider.deferred d where d.lane_id = $1 and d.job_id <= $2)
      or exists (select 1 from postrider.ready r where r.lane_id = $1 and r.job_id <= $2)
      or exists (select 1 from postrider.lane l join postrider.tenant t using (tenant_id)
                 where l.lane_id = $1 and (t.residence <> 'here'
                   or exists (select 1 from postrider.transit x where x.tenant_id = t.tenant_id))) as some
), forgotten as (
  delete from postrider.lane_cancellation c using left_over o
  where c.lane_id = $1 and c.before_id = $2 and not o.some
  returning 1
), later as (
  update postrider.lane_cancellation c set look_at = now() + make_interval(secs => $3) from left_over o
  where c.lane_id = $1 and c.before_id = $2 and o.some
)
select exists (select 1 from forgotten)
