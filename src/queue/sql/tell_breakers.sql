-- Session $1 leaves these alone: $2 spots, $3 hosts, $4 states, $5 reasons, $6 domains by commas,
-- $7 since so many seconds, $8 for so many more.
with told as materialized (
  select * from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::float8[])
    as t(spot, host, state, why, domains, lasted, left_secs)
), gone as (
  delete from postrider.breaker b
  where (b.session_id = $1 and not exists (select 1 from told where told.spot = b.spot))
     or not exists (select 1 from postrider.worker_session s
                    where s.session_id = b.session_id and s.state <> 'fenced')
)
insert into postrider.breaker(session_id, spot, host, state, why, domains, since, until)
select $1, spot, host, state, why, string_to_array(domains, ','), now() - make_interval(secs => lasted),
       case when left_secs > 0 then now() + make_interval(secs => left_secs) end
from told
on conflict (session_id, spot) do update set host = excluded.host, state = excluded.state, why = excluded.why,
  domains = excluded.domains, since = excluded.since, until = excluded.until
