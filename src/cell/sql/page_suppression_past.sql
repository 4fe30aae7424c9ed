-- $1 tenant  $2 after  $3 most
select address || ' ' || past_id as after, row_to_json(x)::text as line from postrider.suppression_past x
where tenant_id = $1
  and (address, past_id) > (split_part($2, ' ', 1), coalesce(nullif(split_part($2, ' ', 2), '')::bigint, -1))
order by address, past_id limit $3
