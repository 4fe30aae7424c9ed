-- The same for the history, which has no key: a delivery writes one row at a time at most.
with arriving as materialized (
  select 1 from postrider.tenant where tenant_id = $2 and residence = 'arriving' for share
)
insert into postrider.attempt
select r.* from unnest($1::text[]) u(line)
cross join lateral json_populate_record(null::postrider.attempt, u.line::json) r
where exists (select 1 from arriving)
  and not exists (select 1 from postrider.attempt a
    where a.message_id = r.message_id and a.kind = r.kind and a.job_id = r.job_id and a.at = r.at)
