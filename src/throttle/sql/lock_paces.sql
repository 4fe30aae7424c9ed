-- $1 keys. Their paces, locked in one order for everyone.
select key, state, extract(epoch from clock_timestamp())::float8 as now
from postrider.pace where key = any ($1) order by key for update
