-- A batch of recipients against a list of any length (docs/adr/0031). Hashes of domains are told
-- from hashes of addresses: they stand with the domains in the clear, behind an @.

-- Which of these forms a list names (0: everyone's), and for which streams. A few forms are
-- looked up one by one. For many, a short list is read instead, or the domains of a long one:
-- a look-up costs some pages of the index, and there are as many of them as forms.
create function postrider.listed(p_list bigint, p_forms text[])
returns table(address text, stream text) language plpgsql stable
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  c_few constant int := 1000;
  v_few boolean;
begin
  if cardinality(p_forms) > 100 then
    select count(*) <= c_few into v_few
    from (select from postrider.suppression s where s.tenant_id = p_list limit c_few + 1) as head;
    if v_few then
      -- "is true" makes this a table of hashes, here and below.
      return query
        select s.address, s.stream from postrider.suppression s
        where s.tenant_id = p_list and (s.address in (select unnest(p_forms))) is true
          and (s.expires_at is null or s.expires_at > now());
      return;
    end if;
    select count(*) <= c_few into v_few
    from (select from postrider.suppression s
          where s.tenant_id = p_list and s.address >= '@' and s.address < 'A' limit c_few + 1) as head;
    if v_few then
      return query
        select s.address, s.stream from postrider.suppression s
        where s.tenant_id = p_list and s.address >= '@' and s.address < 'A'
          and (s.address in (select unnest(p_forms))) is true
          and (s.expires_at is null or s.expires_at > now());
      p_forms := array(select f from unnest(p_forms) f where not f ^@ '@');
    end if;
    -- Hashes of addresses sort before $. Where nobody is named in the clear, that is not looked for.
    if (select s.address from postrider.suppression s
        where s.tenant_id = p_list and s.address >= '$' and s.address < '@' order by s.address limit 1) is null
      and (select s.address from postrider.suppression s
           where s.tenant_id = p_list and s.address >= 'A' order by s.address limit 1) is null then
      p_forms := array(select f from unnest(p_forms) f where f collate "C" < '$' or f ^@ '@');
    end if;
  end if;
  return query
    select s.address, s.stream from postrider.suppression s
    where s.tenant_id = p_list and s.address = any (p_forms)
      and (s.expires_at is null or s.expires_at > now());
end $$;

create or replace function postrider.held_recipients(
  p_tenant bigint, p_stream text, p_recipients text[], p_of int[], p_probes text[])
returns int[] language plpgsql as $$
declare v_held int[]; v_forms text[];
begin
  if p_probes is null then
    select array_agg(n), array_agg(probe) into p_of, p_probes
    from unnest(p_recipients) with ordinality as r(recipient, n)
    cross join lateral (values (lower(normalize(recipient))), ('@' || postrider.domain_of(recipient))) p(probe);
  end if;
  -- In the list's own order of bytes: sorting by a language's takes longer than all look-ups.
  v_forms := array(select distinct f collate "C" from unnest(p_probes) f);
  select array_agg(distinct u.n) into v_held
  from unnest(p_of, p_probes) as u(n, address)
  where (u.address in (
    select l.address from postrider.listed(0, v_forms) l where l.stream in ('', p_stream)
    union all
    select l.address from postrider.listed(p_tenant, v_forms) l where l.stream in ('', p_stream))) is true;
  return coalesce(v_held, '{}');
end $$;
