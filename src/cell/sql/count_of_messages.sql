select count(*) from postrider.message m join postrider.{table} x using (message_id) where m.tenant_id = $1
