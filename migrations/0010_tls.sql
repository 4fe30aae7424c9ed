-- What is known of receivers' TLS policies, and how TLS with them went. No tenant's rows: these
-- are about receivers. Used in the home cell.

-- MTA-STS policies in force, as they were fetched (RFC 8461).
create table postrider.sts_policy(
  domain     text primary key,
  policy_id  text not null,
  policy     text not null check (octet_length(policy) <= 65536),
  fetched_at timestamptz not null,
  expires_at timestamptz not null);
create index sts_policy_age on postrider.sts_policy(fetched_at);
grant select, insert, update, delete on postrider.sts_policy to postrider_worker, postrider_operator;

-- How sessions went, by day (UTC) and receiver; failure '' is none (RFC 8460 4).
create table postrider.tls_result(
  day         date not null,
  domain      text not null,
  policy_type text not null,
  policy      text not null,
  policy_hash text not null generated always as (md5(policy)) stored,
  host        text not null,
  source_ip   text not null,
  host_ip     text not null,
  failure     text not null,
  sessions    bigint not null check (sessions > 0),
  primary key (day, domain, policy_type, policy_hash, host, source_ip, host_ip, failure));
grant select, insert, update, delete on postrider.tls_result to postrider_worker, postrider_operator;

-- What became of a day's report to a receiver. open: something is still to be sent, not before
-- next_at. sent: all of it was. unwanted: the receiver names nobody. failed: given up.
create table postrider.tls_report(
  day     date not null,
  domain  text not null,
  state   text not null check (state in ('open', 'sent', 'unwanted', 'failed')),
  tries   int not null default 0,
  next_at timestamptz not null default now(),
  -- Where it went, or may have gone: nothing is sent there again.
  done    text[] not null default '{}',
  primary key (day, domain));
grant select, insert, update, delete on postrider.tls_report to postrider_worker, postrider_operator;

-- Puts one mail of ours into the queue, under the name of a tenant that the configuration names.
-- Runs with the API role's rights and no more. A repeat with the same key changes nothing.
-- status: ok, replayed, conflict, no_tenant, foreign_domain.
create function postrider.notice(
  p_tenant text, p_from_domain text, p_stream text, p_content json, p_recipient text, p_key bytea)
returns text language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_before text := coalesce(current_setting('postrider.tenant', true), '');
  v_tenant bigint;
  v_status text;
begin
  select t.tenant_id into v_tenant from postrider.tenant_named(p_tenant) t;
  if v_tenant is null then return 'no_tenant'; end if;
  select s.status into v_status from postrider.submit(
    v_tenant, p_from_domain, p_stream, p_content, null, null, array[p_recipient], array[null::text], p_key,
    sha256(convert_to(p_content::text, 'UTF8'))) s;
  perform set_config('postrider.tenant', v_before, true);
  return v_status;
end $$;
-- Which tenant has a name: with the worker's rights, who sees every tenant.
create function postrider.tenant_named(p_name text) returns table(tenant_id bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as
$$ select t.tenant_id from postrider.tenant t where t.name = p_name and t.residence in ('here', 'leaving') $$;
revoke all on function postrider.notice(text, text, text, json, text, bytea) from public;
revoke all on function postrider.tenant_named(text) from public;
grant execute on function postrider.notice(text, text, text, json, text, bytea) to postrider_worker;
grant execute on function postrider.tenant_named(text) to postrider_api;
grant create on schema postrider to postrider_api, postrider_worker;
alter function postrider.notice(text, text, text, json, text, bytea) owner to postrider_api;
alter function postrider.tenant_named(text) owner to postrider_worker;
revoke create on schema postrider from postrider_api, postrider_worker;
