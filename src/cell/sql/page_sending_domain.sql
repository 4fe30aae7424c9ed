-- $1 tenant  $2 after  $3 most
select domain as after, row_to_json(x)::text as line from postrider.sending_domain x
where tenant_id = $1 and domain > $2 order by domain limit $3
