-- What is left of each rate that was used lately: tokens that a slab could begin with, and
-- when the next is released.
select key, nth, rate, burst,
       case when idle_at < n then floor(burst) else
         least(floor(burst), floor(greatest(n - tail, 0)::float8 * rate / 1e9::float8)) end as tokens,
       greatest(tail + postrider.throttle_cost(rate, 1) - n, 0)::float8 / 1e9::float8 as next_seconds
from postrider.throttle_bucket, lateral (select postrider.nanos() as n) clock
where nth >= 0 order by key, nth
