-- Conditions that need a person. Every row is one.
select 'dead letters' as condition,
       format('%s deliveries became dead letters in the last hour. See: postrider dead-letter list', count(*)) as text
from postrider.dead_letter where dead_at > now() - interval '1 hour' having count(*) > 0
union all
select 'stream stopped',
       format('%s streams were held back in the last hour for their bounces or complaints: %s. See: postrider queue status',
              count(*), string_agg(postrider.scope_name(b.scope, b.key) || ' (' || b.reason || ')', '; ' order by b.since))
from postrider.block b where b.holder = 'health' and b.until > now() and b.since > now() - interval '1 hour' having count(*) > 0
union all
select 'old transaction',
       format('A transaction has been open for %s and keeps the queue from being cleaned (pid %s, %s).',
              date_trunc('second', now() - a.xact_start), a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'))
from pg_stat_activity a
where a.datname = current_database() and a.xact_start < now() - interval '10 minutes' and a.backend_xmin is not null
union all
select 'prepared transaction',
       format('The prepared transaction %L is %s old and keeps the queue from being cleaned. See: commit prepared, rollback prepared',
              p.gid, date_trunc('second', now() - p.prepared))
from pg_prepared_xacts p
where p.database = current_database() and p.prepared < now() - interval '10 minutes'
union all
select 'replication slot',
       format('The replication slot %L holds back cleaning by %s transactions (active: %s).',
              s.slot_name, greatest(age(s.xmin), age(s.catalog_xmin)), s.active)
from pg_replication_slots s
where greatest(age(s.xmin), age(s.catalog_xmin)) > 10000000
union all
select 'generation not truncated',
       format('An old generation of the hot tables could not be truncated for %s. Something holds its rows or a lock on it.',
              date_trunc('second', now() - g.since[g.live[3] + 1]))
from postrider.generation g
where cardinality(g.live) >= 3 and g.since[g.live[3] + 1] < now() - interval '30 minutes'
union all
select 'overdue deliveries',
       format('A delivery is %s past its expiry and has not ended. Is a daemon or the API running?',
              date_trunc('second', now() - o.expires_at))
from (
  with recursive heads as (
    (select lane_id, expires_at from postrider.ready order by lane_id, run_at, job_id limit 1)
    union all
    select n.lane_id, n.expires_at
    from heads h
    cross join lateral (
      select r.lane_id, r.expires_at from postrider.ready r
      where r.lane_id > h.lane_id order by r.lane_id, r.run_at, r.job_id limit 1) n
  )
  select least((select min(expires_at) from heads),
               (select min(d.expires_at)
                from (select expires_at from postrider.deferred where due_at <= now() order by due_at limit 1000) d)) as expires_at
) o
where o.expires_at < now() - interval '1 minute'
union all
select 'missing partitions', 'Rows lie in a default partition: the maintenance has not created the partitions of the day. '
       || 'See: postrider migrate status'
where exists (select 1 from only postrider.job_default) or exists (select 1 from only postrider.message_default)
   or exists (select 1 from only postrider.attempt_default) or exists (select 1 from only postrider.event_default)
   or exists (select 1 from only postrider.deferred_default where due_at < now() + interval '1 day')
