-- Why lanes wait, as sessions say that live (heard within $1 seconds).
select w.lane_id, w.reason, w.limit_key, w.limit_text, w.limit_rate, w.lane_rate
from postrider.lane_wait w
join postrider.worker_session s using (session_id)
where s.state <> 'fenced' and s.beat_at > now() - make_interval(secs => $1)
