-- $1 domain
select policy_id, policy, extract(epoch from now() - fetched_at)::float8, extract(epoch from expires_at - now())::float8
from postrider.sts_policy where domain = $1 and expires_at > now()
