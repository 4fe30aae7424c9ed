-- $1 scope  $2 key  $3 until  $4 reason  $5 actor  $6 since  $7 holder
insert into postrider.block(scope, key, until, reason, actor, since, holder) values ($1, $2, $3, $4, $5, $6, $7)
on conflict (scope, key) do update
set until = excluded.until, reason = excluded.reason, actor = excluded.actor, since = excluded.since,
    holder = excluded.holder
