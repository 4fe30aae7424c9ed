-- Rows that say no more than none; what was not heard of for long; overrides long over.
with buckets as (delete from postrider.throttle_bucket where idle_at < postrider.nanos() - 10000000000),
     slots as (delete from postrider.throttle_slot where seen_at < now() - interval '1 minute')
delete from postrider.throttle_override where until < now() - interval '7 days'
