select case b.scope when 'T' then 'tenant' when 'S' then 'stream' when 'P' then 'mailbox-provider' else 'lane' end as scope,
       coalesce(case b.scope
         when 'T' then (select t.name from postrider.tenant t where t.tenant_id = b.key)
         when 'S' then (select t.name || '/' || s.name from postrider.stream s join postrider.tenant t using (tenant_id)
                        where s.stream_id = b.key)
         when 'P' then (select p.name from postrider.pool p where p.pool_id = b.key) end, b.key::text) as name,
       b.reason,
       case when b.until < now() + interval '50 years' then extract(epoch from b.until - now())::float8 end as seconds_left
from postrider.block b
where b.until > now()
order by 1, 2
