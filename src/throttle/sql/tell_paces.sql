-- $1 keys, $2 their paces as they are now.
insert into postrider.pace(key, state) select * from unnest($1::text[], $2::jsonb[])
on conflict (key) do update set state = excluded.state, told_at = now()
