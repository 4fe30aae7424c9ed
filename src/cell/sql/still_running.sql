-- Which of the transactions $1 have not ended.
select count(distinct virtualtransaction) from pg_locks
where locktype = 'virtualxid' and mode = 'ExclusiveLock' and granted and virtualtransaction = any ($1)
