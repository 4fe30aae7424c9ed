-- $1 scope, $2 tenant, $3 mailbox provider, $4 source, $5 route ('' names each), $6 rates,
-- $7 burst, $8 concurrency, $9 seconds, $10 reason, $11 actor. One that is there is replaced.
insert into postrider.throttle_override
  (scope, tenant, mailbox_provider, source, route, rates, burst, concurrency, until, reason, actor)
values ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(secs => $9), $10, $11)
on conflict (scope, tenant, mailbox_provider, source, route) do update
set rates = excluded.rates, burst = excluded.burst, concurrency = excluded.concurrency,
    until = excluded.until, reason = excluded.reason, actor = excluded.actor, set_at = now()
returning to_char(until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
