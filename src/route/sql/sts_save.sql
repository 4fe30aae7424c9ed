-- $1 domain  $2 id  $3 text  $4 seconds to keep it
insert into postrider.sts_policy(domain, policy_id, policy, fetched_at, expires_at)
values ($1, $2, $3, now(), now() + make_interval(secs => $4))
on conflict (domain) do update
  set policy_id = excluded.policy_id, policy = excluded.policy,
      fetched_at = excluded.fetched_at, expires_at = excluded.expires_at
