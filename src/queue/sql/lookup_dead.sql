-- $1 message  $2 after this job  $3 rows wanted
select d.job_id, d.recipient, null::smallint as code, null::timestamptz as due_at, d.dead_at as ended_at,
  d.attempts::int as attempts, 'dead_lettered' as state
from postrider.dead_letter d
where d.message_id = $1 and d.job_id > $2
order by d.job_id limit $3
