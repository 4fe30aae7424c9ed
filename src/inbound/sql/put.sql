-- Arrays: $1 purpose  $2 delivery or null  $3 envelope sender  $4 client  $5 mail.
insert into postrider.inbound_report(purpose, job_id, sender, peer, raw)
select * from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bytea[])
