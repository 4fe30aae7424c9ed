-- $1 scope  $2 key  $3 until  $4 reason  $5 actor  $6 since  $7 route
insert into postrider.route_override(scope, key, until, reason, actor, since, route)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (scope, key) do update
set until = excluded.until, reason = excluded.reason, actor = excluded.actor, since = excluded.since,
    route = excluded.route
