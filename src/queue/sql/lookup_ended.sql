-- $1 message  $2 after this job  $3 kind of end  $4 rows wanted
select j.job_id, j.recipient, a.code, null::timestamptz as due_at, a.at as ended_at, a.attempt::int as attempts,
  (array['delivered', 'bounced', 'expired', 'suppressed', 'cancelled'])[a.kind] as state
from postrider.attempt a join postrider.job j using (job_id)
where a.message_id = $1 and a.kind = $3 and a.job_id > $2
  and a.at >= (select created_at from postrider.message where message_id = $1)
order by a.job_id limit $4
