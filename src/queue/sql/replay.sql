-- $1 key hash
select body_hash, message_id, answer::text as answer
from postrider.idempotency
where tenant_id = postrider.current_tenant() and key_hash = $1
