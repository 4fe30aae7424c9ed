-- Recipient domains ($1) of mailbox providers ($2), as configured; what was learned from MX stays.
with given as (
  select g.domain, p.pool_id from unnest($1::text[], $2::text[]) as g(domain, pool) join postrider.pool p on p.name = g.pool
), gone as (
  delete from postrider.domain_pool d where d.origin = 'config' and not exists (select 1 from given g where g.domain = d.domain)
)
insert into postrider.domain_pool(domain, pool_id, origin) select domain, pool_id, 'config' from given
on conflict (domain) do update set pool_id = excluded.pool_id, origin = 'config'
where (postrider.domain_pool.pool_id, postrider.domain_pool.origin) is distinct from (excluded.pool_id, excluded.origin)
