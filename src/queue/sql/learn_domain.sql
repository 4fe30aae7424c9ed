-- The mailbox provider $2 behind the recipient domain $1, learned from its MX.
insert into postrider.domain_pool(domain, pool_id, origin)
select $1, pool_id, 'mx' from postrider.pool where name = $2
on conflict (domain) do update set pool_id = excluded.pool_id where postrider.domain_pool.origin = 'mx'
