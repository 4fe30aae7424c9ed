-- History of one message ($1) after (kind $2, job $3, time $4), at most $5.
select kind, job_id, at, row_to_json(a)::text as line from postrider.attempt a
where message_id = $1 and (kind, job_id, at) > ($2, $3, coalesce($4, '-infinity'::timestamptz))
order by message_id, kind, job_id, at limit $5
