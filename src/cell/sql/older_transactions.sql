-- Transactions of this database that are under way now, but for our own: each may have looked
-- before it could see that the tenant is leaving. (Background workers have no user.)
select coalesce(array_agg(l.virtualtransaction), '{}')
from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'virtualxid' and l.granted and l.mode = 'ExclusiveLock'
  and a.datname = current_database() and a.usesysid is not null and l.pid <> pg_backend_pid()
