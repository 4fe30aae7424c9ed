-- $1 tenant  $2 after  $3 most
select job_id || ' ' || hold as after, row_to_json(x)::text as line from postrider.late_outcome x
where tenant_id = $1 and (job_id, hold) > (
  coalesce(nullif(split_part($2, ' ', 1), ''), '-1')::bigint, coalesce(nullif(split_part($2, ' ', 2), ''), '-1')::int)
order by job_id, hold limit $3
