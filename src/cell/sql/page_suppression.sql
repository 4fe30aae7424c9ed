-- $1 tenant  $2 after  $3 most
select address || ' ' || stream as after, row_to_json(x)::text as line from postrider.suppression x
where tenant_id = $1 and (address, stream) > (split_part($2, ' ', 1), split_part($2, ' ', 2))
order by address, stream limit $3
