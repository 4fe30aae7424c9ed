-- $1 day  $2 domain  $3 collector
insert into postrider.tls_report as t (day, domain, state, done) values ($1, $2, 'open', array[$3])
on conflict (day, domain) do update set done = array_remove(t.done, $3) || $3
