-- $1 tenant  $2 after  $3 most. Open again there: what is in transit was not seen by the sweep here.
select message_id::text as after, (to_jsonb(x) || '{"done_at": null}')::text as line from postrider.cancellation x
where tenant_id = $1 and message_id > coalesce(nullif($2, ''), '-1')::bigint order by message_id limit $3
