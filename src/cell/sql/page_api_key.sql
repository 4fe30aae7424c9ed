-- $1 tenant  $2 after  $3 most
select prefix as after, row_to_json(x)::text as line from postrider.api_key x
where tenant_id = $1 and prefix > $2 order by prefix limit $3
