-- $1 session, $2 nanoseconds ahead; rates: $3 keys, $4 which rate, $5 rates, $6 bursts, $7 wanted,
-- $8 given back, $9 the end of the slab they are of; concurrencies: $10 keys, $11 limits,
-- $12 kept, $13 wanted.
select place, granted, start, tail, allotted, target
from postrider.throttle_exchange($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
