-- $1 lanes  $2 seconds within which a session that lives was heard.
-- Why they wait, as living sessions say; one row with lane 0 says how many live.
select 0 as lane_id, '' as reason, null as limit_key, null as limit_text, null::float8 as limit_rate,
       count(*)::float8 as lane_rate, now() as since, null::timestamptz as until
from postrider.worker_session
where state = 'alive' and beat_at > now() - make_interval(secs => $2)
union all
select w.lane_id, w.reason, w.limit_key, w.limit_text, w.limit_rate, w.lane_rate, w.since, w.until
from postrider.lane_wait w
join postrider.worker_session s using (session_id)
where w.lane_id = any ($1) and s.state <> 'fenced' and s.beat_at > now() - make_interval(secs => $2)
