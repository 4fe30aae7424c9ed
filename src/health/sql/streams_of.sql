-- $1 tenant. Its streams of which anything is known.
select s.name from postrider.stream s
where s.tenant_id = $1
  and (exists (select 1 from postrider.health_bucket b where b.tenant_id = $1 and b.stream = s.name)
       or exists (select 1 from postrider.health_stream h where h.tenant_id = $1 and h.stream = s.name))
order by s.name
