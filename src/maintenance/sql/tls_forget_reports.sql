delete from postrider.tls_report where day < (now() at time zone 'UTC')::date - 30
