-- $1 lane  $2 job  $3 rows looked at. How many rows of the lane are before it, and when it is due.
-- No place: it is not among the rows looked at; seen says how many those were.
with head as materialized (
  select job_id, run_at, row_number() over (order by run_at, job_id) - 1 as place
  from (select job_id, run_at from postrider.ready where lane_id = $1 order by run_at, job_id limit $3) x
)
select (select count(*) from head) as seen, h.place, h.run_at
from (select 1) one left join head h on h.job_id = $2
