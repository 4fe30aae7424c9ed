-- Live and dead rows by state, as the statistics collector knows them (about a second old).
-- What is parked was left in an old generation, or is scheduled for much later.
select case when c.relname = 'ready_g4' then 'parked' when c.relname like 'ready%' then 'ready'
            when c.relname like 'lease%' then 'leased' when c.relname like 'deferred%' then 'deferred'
            else 'dead_letter' end as state,
       sum(greatest(pg_stat_get_live_tuples(c.oid), 0))::bigint as rows,
       sum(greatest(pg_stat_get_dead_tuples(c.oid), 0))::bigint as dead
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'postrider' and c.relkind = 'r'
  and (c.relname = 'dead_letter' or c.relname ~ '^(ready_g[0-4]|lease_g[0-3]|deferred_([0-9]{10}|default))$')
group by 1
