-- $1 scope  $2 key  $3 seconds or null  $4 reason. A suspension is not replaced: no row then.
-- (A hundred years and not infinity: every reader of a timestamp understands it.)
insert into postrider.block as b(scope, key, until, reason)
values ($1, $2, now() + coalesce(make_interval(secs => $3), interval '100 years'), $4)
on conflict (scope, key) do update set until = excluded.until, reason = excluded.reason
where b.reason <> 'suspended' or b.scope <> 'T'
