-- $1 tenant  $2 after  $3 most
select domain || ' ' || selector as after, row_to_json(x)::text as line from postrider.dkim_key x
where tenant_id = $1 and (domain, selector) > (split_part($2, ' ', 1), split_part($2, ' ', 2))
order by domain, selector limit $3
