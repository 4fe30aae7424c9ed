-- To whom the deliveries $1 are; they lie between $2 and $3, so that few days are looked through.
select job_id, recipient from postrider.job
where job_id = any ($1) and job_id between $2 and $3
