-- Deliveries of one message ($1) after $2, at most $3.
select job_id, row_to_json(j)::text as line from postrider.job j
where message_id = $1 and job_id > $2 order by message_id, job_id limit $3
