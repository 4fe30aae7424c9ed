-- Sessions that live (heard within $1 seconds), with what they told of themselves.
select s.session_id, s.worker, w.rate, w.rate_bulk, w.in_hand, w.slots, w.capacity,
       extract(epoch from clock_timestamp() - w.told_at)::float8 as told_seconds
from postrider.worker_session s
left join postrider.worker_signal w using (session_id)
where s.state = 'alive' and s.beat_at > now() - make_interval(secs => $1)
order by s.session_id
