-- $1 tenant  $2 after  $3 most
select address as after, row_to_json(x)::text as line from postrider.soft_bounce x
where tenant_id = $1 and address > $2 order by address limit $3
