-- $1 day  $2 domain  $3 how it ended
insert into postrider.tls_report(day, domain, state) values ($1, $2, $3)
on conflict (day, domain) do update set state = excluded.state
