delete from postrider.tls_result where day < (now() at time zone 'UTC')::date - 3
