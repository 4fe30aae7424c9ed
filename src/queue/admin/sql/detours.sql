-- What takes another route now.
select postrider.scope_kind(o.scope) as scope, postrider.scope_name(o.scope, o.key) as name, o.route, o.reason, o.actor,
       extract(epoch from o.until - now())::float8 as seconds_left
from postrider.route_override o
where o.until > now()
order by 1, 2
