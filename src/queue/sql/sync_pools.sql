-- Names of destination pools that the configuration knows ($1), insert-only.
insert into postrider.pool(name) select distinct n from unnest($1::text[]) n
where not exists (select 1 from postrider.pool p where p.name = n) order by 1
on conflict do nothing
