-- What changed: generations in use (oldest first), how often rows were parked, lanes hinted in
-- the last $1 seconds, and what operators said: pauses, changed routes, and the version of the
-- directory.
select (select live from postrider.generation) as generations,
       (select parked from postrider.generation) as parked,
       coalesce((select array_agg(lane_id) from postrider.lane_hint
                 where hinted_at > now() - make_interval(secs => $1)), '{}') as hinted,
       coalesce((select array_agg(scope || ' ' || key) from postrider.block where until > now()), '{}') as blocked,
       coalesce((select array_agg(scope || ' ' || key || ' ' || route) from postrider.route_override
                 where until > now()), '{}') as detours,
       (select version from postrider.directory) as directory
