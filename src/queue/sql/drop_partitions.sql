-- Drops what is older than $1 seconds (messages, jobs) or $2 (attempts) and not needed. What is
-- needed is only asked for when there is something to drop: it reads all that waits.
with old as (
  select now() - make_interval(secs => $1) as before, now() - make_interval(secs => $2) as history_before
)
select case when exists (select 1 from postrider.old_partitions(before, history_before))
       then postrider.drop_partitions(before, history_before,
         least(postrider.oldest_needed(), postrider.oldest_in_transit())) end
from old
