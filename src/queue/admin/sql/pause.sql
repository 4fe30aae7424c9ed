-- $1 scope  $2 key  $3 seconds or null  $4 reason  $5 holder  $6 actor. A suspension is not
-- replaced, nor by a tenant what an operator holds back: no row then.
-- (A hundred years and not infinity: every reader of a timestamp understands it.)
insert into postrider.block as b(scope, key, until, reason, holder, actor)
values ($1, $2, now() + coalesce(make_interval(secs => $3), interval '100 years'), $4, $5, $6)
on conflict (scope, key) do update
set until = excluded.until, reason = excluded.reason, holder = excluded.holder, actor = excluded.actor, since = now()
where (b.reason <> 'suspended' or b.scope <> 'T')
  and (excluded.holder = 'operator' or b.holder = 'tenant' or b.until <= now())
