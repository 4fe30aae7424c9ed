-- $1 lane  $2 seconds within which a session that lives was heard. Of the lanes that wait for
-- capacity: how many there are, and how many of them have waited longer than this one.
with waiting as materialized (
  select w.lane_id, min(w.since) as since
  from postrider.lane_wait w join postrider.worker_session s using (session_id)
  where w.reason in ('tenant_room', 'fairness', 'no_room', 'turn')
    and s.state <> 'fenced' and s.beat_at > now() - make_interval(secs => $2)
  group by w.lane_id
)
select count(*) as lanes, count(*) filter (where since < (select since from waiting where lane_id = $1)) as longer
from waiting
