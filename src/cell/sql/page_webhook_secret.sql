-- $1 tenant  $2 after  $3 most
select webhook_id || ' ' || secret_id as after, row_to_json(x)::text as line from postrider.webhook_secret x
where tenant_id = $1 and (webhook_id, secret_id) > (
  coalesce(nullif(split_part($2, ' ', 1), ''), '-1')::bigint, coalesce(nullif(split_part($2, ' ', 2), ''), '-1')::bigint)
order by webhook_id, secret_id limit $3
