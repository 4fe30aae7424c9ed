-- What keeps the store from being cleaned, in seconds and in transactions; one row.
select
  coalesce(s.seconds, 0)::float8 as session_seconds, coalesce(s.xids, 0)::bigint as session_xids,
  coalesce(p.seconds, 0)::float8 as prepared_seconds, coalesce(p.xids, 0)::bigint as prepared_xids,
  coalesce((select max(greatest(age(xmin), age(catalog_xmin))) from pg_replication_slots), 0)::bigint as slot_xids,
  -- Since the third youngest generation stopped being needed for claims.
  case when cardinality(g.live) >= 3
       then extract(epoch from now() - g.since[g.live[3] + 1]) else 0 end::float8 as generation_stuck,
  ((exists (select 1 from postrider.message_default))::int + (exists (select 1 from postrider.job_default))::int
   + (exists (select 1 from postrider.attempt_default))::int + (exists (select 1 from postrider.deferred_default))::int
   + (exists (select 1 from postrider.event_default))::int)::bigint
    as defaults_in_use,
  coalesce((select greatest(extract(epoch from now() - min(d.expires_at)), 0)
            from (select expires_at from postrider.deferred where due_at <= now() order by due_at limit 1000) d), 0)::float8
    as deferred_overdue,
  (select count(*) from postrider.health_stream where level = 'warned') as streams_warned,
  (select count(*) from postrider.block where holder = 'health' and until > now()) as streams_stopped
from postrider.generation g,
  (select max(extract(epoch from now() - xact_start)) as seconds, max(age(backend_xmin)) as xids
   from pg_stat_activity
   where backend_xmin is not null and pid <> pg_backend_pid() and (datname = current_database() or datname is null)
     and backend_type is distinct from 'autovacuum worker') s,
  (select max(extract(epoch from now() - prepared)) as seconds, max(age(transaction)) as xids
   from pg_prepared_xacts where database = current_database()) p
