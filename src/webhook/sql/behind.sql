-- $1 endpoint  $2 deliveries: those of which something is to be told again before anything else,
-- and whether the endpoint has as many retries as it may ($3).
select array(select distinct r.job_id from postrider.webhook_retry r where r.webhook_id = $1 and r.job_id = any ($2)) as jobs,
       (select count(*) from (select 1 from postrider.webhook_retry r where r.webhook_id = $1 limit $3) x) >= $3 as full
