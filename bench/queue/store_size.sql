-- Bytes of hot tables and of their indexes, dead rows in them, bytes of what is kept by the
-- day, and the log's position. Kept: partitions of message, job and attempt. Hot: the rest.
with t as (
  select c.oid, coalesce(i.inhparent::regclass::text, c.oid::regclass::text)
           in ('postrider.message', 'postrider.job', 'postrider.attempt') as is_kept
  from pg_class c
  left join pg_inherits i on i.inhrelid = c.oid
  where c.relnamespace = 'postrider'::regnamespace and c.relkind = 'r'
)
select coalesce(sum(pg_table_size(t.oid)) filter (where not is_kept), 0)::float8,
       coalesce(sum(pg_indexes_size(t.oid)) filter (where not is_kept), 0)::float8,
       coalesce(sum(s.n_dead_tup) filter (where not is_kept), 0)::float8,
       coalesce(sum(pg_total_relation_size(t.oid)) filter (where is_kept), 0)::float8,
       (pg_current_wal_insert_lsn() - '0/0')::float8
from t left join pg_stat_user_tables s on s.relid = t.oid
