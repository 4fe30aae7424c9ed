-- $1 tenant  $2 after  $3 most
select job_id::text as after, row_to_json(x)::text as line from postrider.transit x
where tenant_id = $1 and job_id > coalesce(nullif($2, ''), '-1')::bigint order by job_id limit $3
