-- $1 domains  $2 kinds of policy  $3 policies  $4 hosts  $5 our addresses  $6 theirs  $7 failures
-- $8 sessions. In order, so that two processes never wait for each other.
insert into postrider.tls_result as r
  (day, domain, policy_type, policy, host, source_ip, host_ip, failure, sessions)
select (now() at time zone 'UTC')::date, n.domain, n.kind, n.policy, n.host, n.ours, n.theirs, n.failure, n.sessions
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[])
  as n(domain, kind, policy, host, ours, theirs, failure, sessions)
order by n.domain, n.kind, md5(n.policy), n.host, n.ours, n.theirs, n.failure
on conflict (day, domain, policy_type, policy_hash, host, source_ip, host_ip, failure)
  do update set sessions = r.sessions + excluded.sessions
