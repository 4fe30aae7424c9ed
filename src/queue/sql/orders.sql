-- What operators said, for those who look at the lanes less often than orders must be obeyed.
select coalesce((select array_agg(scope || ' ' || key) from postrider.block where until > now()), '{}') as blocked,
       coalesce((select array_agg(scope || ' ' || key || ' ' || route) from postrider.route_override
                 where until > now()), '{}') as detours,
       (select version from postrider.directory) as directory
