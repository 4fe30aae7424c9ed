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
  end if;
  return query
    select s.address, s.stream from postrider.suppression s
    where s.tenant_id = p_list and s.address = any (p_forms)
      and (s.expires_at is null or s.expires_at > now());
end $$;

-- Whether a list names anybody in the clear, but for addresses that sort among the hashes: those of
-- addresses begin with #, before $, and those of domains stand between @# and @$.
create function postrider.names_clearly(p_list bigint) returns boolean language plpgsql stable
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  return (select s.address from postrider.suppression s
          where s.tenant_id = p_list and s.address >= '$' and s.address < '@#' order by s.address limit 1) is not null
    or (select s.address from postrider.suppression s
        where s.tenant_id = p_list and s.address >= '@$' order by s.address limit 1) is not null;
end $$;

-- The same for the forms of several tenants: those of each end at its place in p_ends, from 1; of
-- the last also without one. If the first form is a hash, that is said of the first half of
-- p_forms, which is all hashes; the second has the same people in the clear, tenant by tenant. On a
-- list without such they are not looked for. What everyone's list names has no tenant. One call
-- has one plan, made once.
create function postrider.suppressed(p_tenants bigint[], p_ends int[], p_forms text[])
returns table(tenant_id bigint, address text, stream text) language plpgsql stable as $$
declare
  -- An address has an @, also where it begins with #.
  v_half int := case when p_forms[1] ~ '^@?#[^@]*$' then cardinality(p_forms) / 2 else 0 end;
  v_from int := 1;
  v_end int;
  v_odd text[] := '{}';
  v_forms text[] := p_forms;
begin
  if v_half > 0 then
    v_odd := array(select f from unnest(p_forms[v_half + 1:]) f where f collate "C" < '$');
    if not postrider.names_clearly(0) then
      v_forms := p_forms[:v_half] || v_odd;
    end if;
  end if;
  return query select null::bigint, l.address, l.stream from postrider.listed(0, v_forms) l;
  for n in 1..cardinality(p_tenants) loop
    v_end := coalesce(p_ends[n], cardinality(p_forms) - v_half);
    v_forms := p_forms[v_from:v_end];
    if v_half > 0 and postrider.names_clearly(p_tenants[n]) then
      v_forms := v_forms || p_forms[v_from + v_half:v_end + v_half];
    else
      v_forms := v_forms || v_odd;
    end if;
    return query select p_tenants[n], l.address, l.stream from postrider.listed(p_tenants[n], v_forms) l;
    v_from := v_end + 1;
  end loop;
end $$;

create or replace function postrider.held_recipients(
  p_tenant bigint, p_stream text, p_recipients text[], p_of int[], p_probes text[])
returns int[] language plpgsql as $$
declare v_held int[]; v_hits text[];
begin
  if p_probes is null then
    select array_agg(n), array_agg(probe) into p_of, p_probes
    from unnest(p_recipients) with ordinality as r(recipient, n)
    cross join lateral (values (lower(normalize(recipient))), ('@' || postrider.domain_of(recipient))) p(probe);
  end if;
  v_hits := array(
    select s.address from postrider.suppressed(array[p_tenant], '{}', p_probes) s
    where s.stream in ('', p_stream));
  if cardinality(v_hits) > 0 then
    select array_agg(distinct u.n) into v_held
    from unnest(p_of, p_probes) as u(n, address)
    where (u.address in (select unnest(v_hits))) is true;
  end if;
  return coalesce(v_held, '{}');
end $$;
