-- $1 scope  $2 key  $3 route  $4 seconds  $5 reason  $6 actor
insert into postrider.route_override as o(scope, key, route, until, reason, actor)
values ($1, $2, $3, now() + make_interval(secs => $4), $5, $6)
on conflict (scope, key) do update
set route = excluded.route, until = excluded.until, reason = excluded.reason, actor = excluded.actor, since = now()
