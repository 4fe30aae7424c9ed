-- $1 day  $2 domain
select policy_type, policy, host, source_ip, host_ip, failure, sessions
from postrider.tls_result where day = $1 and domain = $2
order by policy_type, policy_hash, host, source_ip, host_ip, failure
