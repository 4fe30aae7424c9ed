-- Callbacks of providers: kept like what comes back by mail, and told to tenants.

-- An event of a provider is a report whose sender is the provider's name. Its key is the same
-- however often it is told. The API stores them, and reads none.
alter table postrider.inbound_report drop constraint inbound_report_purpose_check;
alter table postrider.inbound_report add constraint inbound_report_purpose_check
  check (purpose in ('return', 'complaint', 'unsubscribe', 'callback'));
alter table postrider.inbound_report add column event_key text;
create unique index inbound_report_event on postrider.inbound_report(event_key) where event_key is not null;
grant insert (purpose, sender, peer, raw, event_key) on postrider.inbound_report to postrider_api;

-- Whether so many wait that no more should be taken in; counts no further.
create function postrider.reports_are_many(p_most bigint) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as
$$ select count(*) >= p_most from (select 1 from postrider.inbound_report where done_at is null limit p_most) w $$;
revoke all on function postrider.reports_are_many(bigint) from public;
grant execute on function postrider.reports_are_many(bigint) to postrider_api;

-- Numbers that Mailgun signs and uses once, kept until what they signed is stale.
create table postrider.callback_token(
  token      text primary key check (octet_length(token) <= 200),
  expires_at timestamptz not null);
create index callback_token_expires on postrider.callback_token(expires_at);
select postrider.keep_small('postrider.callback_token', 'queue');
grant insert on postrider.callback_token to postrider_api;
grant select, update, delete on postrider.callback_token to postrider_worker, postrider_operator;

-- A report or callback about the recipient we wrote to is told with its delivery: refused after
-- all, complained, unsubscribed. Only what is proven: anyone can write a report that proves
-- nothing.
create or replace function postrider.tell_attempts() returns trigger language plpgsql as $$
declare v_xid bigint;
begin
  if not exists (select 1 from fresh f join postrider.event_tenant e using (tenant_id)) then return null; end if;
  v_xid := pg_current_xact_id()::text::bigint;
  insert into postrider.event(tenant_id, xid, kind, in_doubt, attempt, code, message_id, job_id, next_at, detail)
  select f.tenant_id, v_xid, told.kind, f.in_doubt, f.attempt, f.code, f.message_id, f.job_id, f.next_at, f.detail
  from fresh f
  join postrider.event_tenant e using (tenant_id)
  join postrider.tenant t using (tenant_id)
  cross join lateral (
    select case
      when f.kind = 8 then 7
      when f.kind < 9 then f.kind
      when f.detail ->> 'proven' is distinct from 'true' or f.detail ->> 'recipient_is_other' = 'true' then null
      else case f.detail ->> 'action' when 'failed' then 2 when 'complained' then 9 when 'unsubscribed' then 10 end
    end as kind) told
  where e.enabled and t.residence <> 'arriving' and told.kind is not null;
  return null;
end $$;

-- What the history told in this transaction is not told twice.
create or replace function postrider.tell_suppressions() returns trigger language plpgsql as $$
declare v_xid bigint;
begin
  if not exists (select 1 from fresh f join postrider.event_tenant e using (tenant_id)) then return null; end if;
  v_xid := pg_current_xact_id()::text::bigint;
  insert into postrider.event(tenant_id, xid, kind, address, detail)
  select f.tenant_id, v_xid, told.kind, f.address, json_build_object('reason', f.reason, 'source', f.source)
  from fresh f
  join postrider.event_tenant e using (tenant_id)
  join postrider.tenant t using (tenant_id)
  cross join lateral (
    select case when f.reason in ('complaint', 'complained') then 9 when f.reason = 'unsubscribed' then 10 else 4 end
      as kind) told
  where e.enabled and t.residence <> 'arriving' and f.source <> 'api'
    and (told.kind = 4 or not exists (
      select 1 from postrider.event v join postrider.job j on j.job_id = v.job_id
      where v.tenant_id = f.tenant_id and v.xid = v_xid and v.kind = told.kind and lower(j.recipient) = f.address));
  return null;
end $$;
