-- What living daemons leave alone; $1 a recipient's domain, or null for all.
select b.spot, b.host, b.state, b.why, s.worker, b.since, b.until
from postrider.breaker b join postrider.worker_session s using (session_id)
where s.state <> 'fenced' and ($1::text is null or $1 = any (b.domains))
order by b.since, b.spot, s.worker
