-- Conditions that need a person. Every row is one.
select 'dead letters' as condition,
       format('%s deliveries became dead letters in the last hour. See: postrider dead-letter list', count(*)) as text
from postrider.dead_letter where dead_at > now() - interval '1 hour' having count(*) > 0
union all
select 'old transaction',
       format('A transaction has been open for %s and keeps the queue from being cleaned (pid %s, %s).',
              date_trunc('second', now() - a.xact_start), a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'))
from pg_stat_activity a
where a.datname = current_database() and a.xact_start < now() - interval '10 minutes' and a.backend_xmin is not null
union all
select 'missing partitions', 'Rows lie in a default partition: the maintenance has not created the partitions of the day. '
       || 'See: postrider migrate status'
where exists (select 1 from only postrider.job_default) or exists (select 1 from only postrider.message_default)
   or exists (select 1 from only postrider.attempt_default)
