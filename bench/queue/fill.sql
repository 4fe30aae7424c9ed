-- $4 recipients of message $2 (tenant $1, stream $3) into the queue, mixed over $5 pools.
with lanes as materialized (
  select lane_id, pool_id, row_number() over (order by pool_id) - 1 as place
  from postrider.lane where tenant_id = $1 and stream_id = $3
), r as materialized (
  select l.lane_id, n, postrider.mint_id() as job_id,
         'reader' || n || '@' || case l.pool_id when 0 then 'else.example' else p.name || '.example' end as recipient
  from generate_series(1, $4) n
  join lanes l on l.place = n % $5
  join postrider.pool p using (pool_id)
), jobs as (
  insert into postrider.job(job_id, tenant_id, message_id, lane_id, expires_at, recipient, payload)
  select job_id, $1, $2, lane_id, now() + interval '3 days', recipient,
         '{"vars":{"name":"Reader ' || n || '","n":' || n || '}}' from r
), waiting as (
  insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at)
  select (select cur from postrider.generation), lane_id, now(), job_id, $1, now() + interval '3 days' from r
)
update postrider.message set accepted = accepted + $4 where message_id = $2
