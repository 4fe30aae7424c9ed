-- $1 stages, $2 codes, $3 shapes, $4 counts, $5 samples. In one order for everyone.
insert into postrider.unknown_reply(stage, code, shape, count, sample)
select * from unnest($1::text[], $2::smallint[], $3::text[], $4::bigint[], $5::text[])
  as t(stage, code, shape, count, sample) order by stage, code, shape
on conflict (stage, code, shape) do update
set count = unknown_reply.count + excluded.count, last_seen = now()
