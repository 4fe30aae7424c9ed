-- Cancellations of lanes that it is time to sweep, at most 100.
select lane_id, before_id from postrider.lane_cancellation where look_at <= now() order by look_at, lane_id limit 100
