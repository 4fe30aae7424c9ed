-- Who has how many slots of which limit, and wants how many.
select s.key, s.slots, s.session_id, coalesce(w.worker, '') as worker, s.allotted, s.want
from postrider.throttle_slot s left join postrider.worker_session w using (session_id)
where s.seen_at > now() - interval '3 seconds' order by s.key, s.session_id
