-- Live rows by state, as the statistics collector knows them (about a second old).
select case when c.relname like 'ready%' then 'ready' when c.relname like 'lease%' then 'leased'
            when c.relname = 'deferred' then 'deferred' else 'dead_letter' end as state,
       sum(greatest(pg_stat_get_live_tuples(c.oid), 0))::bigint as rows
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'postrider' and c.relkind = 'r'
  and (c.relname in ('deferred', 'dead_letter') or c.relname ~ '^(ready|lease)_g[0-3]$')
group by 1
