-- $1 tenant  $2 after  $3 most
select message_id || ' ' || encode(upload, 'hex') || ' ' || chunk as after, row_to_json(x)::text as line
from postrider.upload_chunk x
where tenant_id = $1 and (message_id, upload, chunk) > (
  coalesce(nullif(split_part($2, ' ', 1), ''), '-1')::bigint, decode(split_part($2, ' ', 2), 'hex'),
  coalesce(nullif(split_part($2, ' ', 3), ''), '-1')::int)
order by message_id, upload, chunk limit $3
