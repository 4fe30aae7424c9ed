-- $1 tenant  $2 after  $3 most
select encode(key_hash, 'hex') as after, row_to_json(x)::text as line from postrider.idempotency x
where tenant_id = $1 and key_hash > decode($2, 'hex') order by key_hash limit $3
