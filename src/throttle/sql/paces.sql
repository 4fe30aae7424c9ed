-- All paces, with the time of the database's clock in seconds.
select key, state, extract(epoch from clock_timestamp())::float8 as now from postrider.pace order by key
