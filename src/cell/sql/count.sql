select count(*) from postrider.{table} where tenant_id = $1
