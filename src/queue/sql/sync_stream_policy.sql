-- What the configuration says of streams: $1 name, $2 bulk, $3 priority, $4 seconds to live, $5 on doubt.
with given as (
  select * from unnest($1::text[], $2::boolean[], $3::smallint[], $4::float8[], $5::text[]) as g(name, bulk, prio, ttl, on_doubt)
), gone as (
  delete from postrider.stream_policy p where not exists (select 1 from given g where g.name = p.name)
)
insert into postrider.stream_policy(name, bulk, prio, ttl, on_doubt)
select name, bulk, prio, make_interval(secs => ttl), on_doubt from given
on conflict (name) do update
set bulk = excluded.bulk, prio = excluded.prio, ttl = excluded.ttl, on_doubt = excluded.on_doubt
