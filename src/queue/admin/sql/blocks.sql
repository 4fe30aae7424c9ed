-- What is held back now.
select postrider.scope_kind(b.scope) as scope, postrider.scope_name(b.scope, b.key) as name, b.reason, b.holder, b.actor, b.since,
       case when b.until < now() + interval '50 years' then extract(epoch from b.until - now())::float8 end as seconds_left
from postrider.block b
where b.until > now()
order by 1, 2
