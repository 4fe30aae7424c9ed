-- The operator's verbs (pause, cancel, move) over any scope that is one row, and quiet hours.

-- ---------------------------------------------------------------- scopes
-- A scope says which lanes something is about: T tenant, S stream, P destination pool,
-- R route, L lane; letters in this order, all of them must fit. Its key holds the numbers
-- (of a route: the name) in the same order with / between them: ('TP', '7/2').
-- A stream always names its tenant, so a tenant can never speak of another's.
create function postrider.is_scope(scope text) returns boolean language sql immutable parallel safe as
$$ select scope ~ '^(TS?P?R?|PR?|R|L)$' $$;

-- Both in words, for people.
create function postrider.scope_kind(scope text) returns text language sql immutable parallel safe as $$
  select array_to_string(array_remove(array[
    case when scope like 'TS%' then 'stream' when scope like 'T%' then 'tenant' end,
    case when scope ~ 'P' then 'mailbox-provider' end, case when scope ~ 'R' then 'route' end,
    case when scope ~ 'L' then 'lane' end], null), '+')
$$;
create function postrider.scope_name(scope text, key text) returns text language sql stable as $$
  select array_to_string(array_remove(array[
    case when scope like 'T%' then coalesce(
      (select t.name from postrider.tenant t where t.tenant_id::text = split_part(key, '/', 1)), split_part(key, '/', 1)) end
    || case when scope like 'TS%' then '/' || coalesce(
      (select s.name from postrider.stream s where s.stream_id::text = split_part(key, '/', 2)), split_part(key, '/', 2))
      else '' end,
    case when scope ~ 'P' then coalesce(
      (select p.name from postrider.pool p where p.pool_id::text = split_part(key, '/', strpos(scope, 'P'))),
      split_part(key, '/', strpos(scope, 'P'))) end,
    case when scope ~ 'R' then split_part(key, '/', strpos(scope, 'R')) end,
    case when scope ~ 'L' then key end], null), ' + ')
$$;

alter table postrider.block drop constraint block_scope_check;
alter table postrider.block alter column key type text using key::text;
update postrider.block b set scope = 'TS', key = s.tenant_id || '/' || b.key
from postrider.stream s where b.scope = 'S' and s.stream_id::text = b.key;
delete from postrider.block where scope = 'S';
alter table postrider.block
  add constraint block_scope_check check (postrider.is_scope(scope)),
  add column tenant_id bigint generated always as (case when scope like 'T%' then split_part(key, '/', 1)::bigint end) stored,
  add column holder text not null default 'operator' check (holder in ('operator', 'tenant')),
  add column actor text,
  add column since timestamptz not null default now();

-- What takes another route for a while, whatever the rules say.
create table postrider.route_override(
  scope  text not null check (postrider.is_scope(scope)),
  key    text not null,
  route  text not null,
  until  timestamptz not null,
  reason text not null,
  actor  text not null,
  since  timestamptz not null default now(),
  tenant_id bigint generated always as (case when scope like 'T%' then split_part(key, '/', 1)::bigint end) stored,
  primary key (scope, key));

-- A row without a tenant is about everybody, so an operator who looks at one tenant sees it too.
do $$
declare t text;
begin
  foreach t in array array['block', 'route_override'] loop
    perform postrider.protect(('postrider.' || t)::regclass);
    execute format('drop policy named_tenant on postrider.%I', t);
    execute format('create policy named_tenant on postrider.%I to postrider_operator
                      using ((select postrider.current_tenant()) is null or tenant_id is null
                             or tenant_id = (select postrider.current_tenant()))', t);
  end loop;
end $$;

-- A tenant holds back streams of its own, and lets go what it held back itself: what an
-- operator pauses stays paused.
drop policy tenant on postrider.block;
create policy own_seen on postrider.block for select to postrider_api
  using (tenant_id = (select postrider.current_tenant()));
create policy own_made on postrider.block for insert to postrider_api
  with check (tenant_id = (select postrider.current_tenant()) and scope = 'TS' and holder = 'tenant');
create policy own_changed on postrider.block for update to postrider_api
  using (tenant_id = (select postrider.current_tenant()) and scope = 'TS' and (holder = 'tenant' or until <= now()))
  with check (tenant_id = (select postrider.current_tenant()) and scope = 'TS' and holder = 'tenant');
create policy own_ended on postrider.block for delete to postrider_api
  using (tenant_id = (select postrider.current_tenant()) and scope = 'TS' and holder = 'tenant');

-- ---------------------------------------------------------------- cancellations of lanes
-- Everything of the lane that was accepted up to before_id is called back. The row stands
-- until none of it can come again: nothing of it waits, is in hand, or is deferred.
create table postrider.lane_cancellation(
  lane_id   int primary key,
  tenant_id bigint not null,
  before_id bigint not null,
  asked_at  timestamptz not null default now(),
  look_at   timestamptz not null default now(),   -- swept again from then on
  reason    text not null,
  actor     text not null);
select postrider.protect('postrider.lane_cancellation');

-- Finds what is deferred in a lane, for cancelling and moving it.
create index deferred_lane on postrider.deferred(lane_id, job_id);

-- ---------------------------------------------------------------- quiet hours
alter table postrider.tenant add column time_zone text not null default 'UTC';

-- Goes up when the directory of lanes and tenants changes, so that daemons read it again.
create table postrider.directory(
  one     boolean primary key default true check (one),
  version bigint not null default 0);
insert into postrider.directory default values;

-- A name that both this database and the daemons know as a time zone.
create function postrider.is_time_zone(name text) returns boolean language plpgsql stable as $$
begin
  if name !~ '^(UTC|[A-Z][A-Za-z_]*(/[A-Za-z0-9_+-]+)+)$' or length(name) > 64 then return false; end if;
  perform now() at time zone name;
  return true;
exception when invalid_parameter_value then return false;
end $$;

-- ---------------------------------------------------------------- rights
grant select, insert, update, delete on postrider.route_override, postrider.lane_cancellation to postrider_worker;
grant select on postrider.directory to postrider_worker;
grant select, insert, update, delete on postrider.route_override, postrider.lane_cancellation to postrider_operator;
grant select, update on postrider.directory to postrider_operator;
grant select, insert, update, delete on postrider.block to postrider_api;
grant select, insert, update on postrider.lane_cancellation to postrider_api;
-- What a tenant does with its streams is recorded beside what operators do; it cannot read it.
grant insert on postrider.operator_action to postrider_api;
grant usage on sequence postrider.operator_action_action_id_seq to postrider_api;

-- ---------------------------------------------------------------- postrider.send
-- As before; a recipient may name its time zone.
create or replace function postrider.send(message json, idempotency_key text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_tenant bigint;
  v_before text := coalesce(current_setting('postrider.tenant', true), '');
  v_stream text := coalesce(message ->> 'stream', 'transactional');
  -- What could end a line of a mail, or looks as if it did.
  v_breaks constant text := '[[:cntrl:]\u0080-\u009f\u2028\u2029]';
  v_is_address constant text :=
    '^[^][[:space:][:cntrl:]<>@",;:\\()]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$';
  v_field  text;
  v_kind   text;
  v_value  text;
  v_from   text;
  v_entry  json;
  v_n      int := 0;
  v_one    text;
  v_all    text[];
  v_to     text[] := '{}';
  v_load   text[] := '{}';
  v_zones  text[] := '{}';                     -- found to be time zones already
  v_result record;
begin
  select l.tenant_id into v_tenant from postrider.tenant_login l where l.login = session_user;
  if v_tenant is null then
    raise exception 'login "%" is not bound to a tenant', session_user
      using errcode = 'insufficient_privilege', hint = 'Bind it: postrider tenant login TENANT LOGIN';
  end if;
  if json_typeof(message) is distinct from 'object' then
    raise exception 'message: expected a JSON object' using errcode = 'invalid_parameter_value';
  end if;
  for v_field in select k from json_object_keys(message) k where k not in
    ('from', 'subject', 'html', 'text', 'reply_to', 'headers', 'vars', 'stream', 'recipients',
     'send_at', 'expires_at', 'attachments', 'metadata')
  loop
    raise exception 'message.%: unknown field', v_field using errcode = 'invalid_parameter_value';
  end loop;
  for v_field, v_kind in
    select * from (values ('from', 'string'), ('subject', 'string'), ('html', 'string'), ('text', 'string'),
      ('reply_to', 'string'), ('stream', 'string'), ('send_at', 'string'), ('expires_at', 'string'),
      ('headers', 'object'), ('vars', 'object'), ('metadata', 'object'), ('attachments', 'array')) kinds
  loop
    if json_typeof(message -> v_field) not in (v_kind, 'null') then
      raise exception 'message.%: expected % %, found %', v_field, case v_kind when 'string' then 'a' else 'an' end,
        v_kind, json_typeof(message -> v_field) using errcode = 'invalid_parameter_value';
    end if;
  end loop;
  foreach v_field in array array['from', 'subject'] loop
    if coalesce(message ->> v_field, '') = '' then
      raise exception 'message.%: missing', v_field using errcode = 'invalid_parameter_value';
    end if;
  end loop;
  for v_field, v_value in
    select f, message ->> f from unnest(array['from', 'subject', 'reply_to']) f
    union all
    select 'headers', key || ': ' || value from json_each_text(
      case when json_typeof(message -> 'headers') = 'object' then message -> 'headers' else '{}' end)
  loop
    if v_value ~ v_breaks then
      raise exception 'message.%: control characters are not allowed', v_field using errcode = 'invalid_parameter_value';
    end if;
  end loop;
  v_from := coalesce(substring(message ->> 'from' from '<([^<>]*)>\s*$'), message ->> 'from');
  v_from := substring(v_from from '^(.*@)') || lower(postrider.domain_of(v_from));
  if v_from is null or v_from !~ v_is_address then
    raise exception 'message.from: expected an address, found %', quote_literal(left(message ->> 'from', 80))
      using errcode = 'invalid_parameter_value';
  end if;
  if coalesce(nullif(message ->> 'html', ''), nullif(message ->> 'text', '')) is null then
    raise exception 'message: give html, text or both' using errcode = 'invalid_parameter_value';
  end if;
  if v_stream !~ '^[a-z0-9][a-z0-9_-]{0,62}$' then
    raise exception 'message.stream: expected lower-case letters, digits, - and _, found %', quote_literal(left(v_stream, 80))
      using errcode = 'invalid_parameter_value';
  end if;
  if json_typeof(message -> 'recipients') is distinct from 'array'
     or json_array_length(message -> 'recipients') not between 1 and 10000 then
    raise exception 'message.recipients: expected an array of 1 to 10000' using errcode = 'invalid_parameter_value';
  end if;

  for v_entry in select e from json_array_elements(message -> 'recipients') e loop
    if json_typeof(v_entry -> 'cc') not in ('array', 'null') or json_typeof(v_entry -> 'vars') not in ('object', 'null') then
      raise exception 'message.recipients[%]: expected cc to be an array and vars an object', v_n
        using errcode = 'invalid_parameter_value';
    end if;
    v_value := v_entry ->> 'time_zone';
    if v_value <> all (v_zones) then
      if not postrider.is_time_zone(v_value) then
        raise exception 'message.recipients[%].time_zone: expected a name like Europe/Berlin, found %', v_n,
          quote_literal(left(v_value, 80)) using errcode = 'invalid_parameter_value';
      end if;
      v_zones := v_zones || v_value;
    end if;
    v_all := array[v_entry ->> 'to'] || coalesce((select array_agg(c) from json_array_elements_text(
      case when json_typeof(v_entry -> 'cc') = 'array' then v_entry -> 'cc' else '[]' end) c), '{}');
    foreach v_one in array v_all loop
      v_value := v_one;
      v_one := coalesce(substring(v_one from '<([^<>]*)>\s*$'), v_one);
      v_one := substring(v_one from '^(.*@)') || lower(postrider.domain_of(v_one));
      if v_one is null or octet_length(v_one) > 254 or v_one !~ v_is_address or v_value ~ v_breaks then
        raise exception 'message.recipients[%]: expected an address, found %', v_n, quote_nullable(left(v_value, 80))
          using errcode = 'invalid_parameter_value';
      end if;
      v_to := v_to || v_one;
      v_load := v_load || (
        -- Nulls inside vars are values; only fields that were not given are left out.
        select coalesce(json_object_agg(k, v), '{}') from json_each(v_entry) as e(k, v)
        where k in ('vars', 'to', 'cc', 'time_zone') and json_typeof(v) <> 'null')::text;
    end loop;
    v_n := v_n + 1;
  end loop;

  select * into v_result from postrider.submit(
    v_tenant, postrider.domain_of(v_from), v_stream,
    (select json_object_agg(k, v) from json_each(message) e(k, v)
     where k not in ('recipients', 'stream', 'send_at', 'expires_at') and json_typeof(v) <> 'null'),
    (message ->> 'send_at')::timestamptz, (message ->> 'expires_at')::timestamptz, v_to, v_load,
    sha256(convert_to(idempotency_key, 'UTF8')),
    case when idempotency_key is not null then sha256(convert_to(message::text, 'UTF8')) end);
  perform set_config('postrider.tenant', v_before, true);
  case v_result.status
    when 'ok', 'replayed' then return postrider.written_id('msg_', v_result.message_id);
    when 'conflict' then raise exception 'idempotency key was used before with another message'
      using errcode = 'unique_violation';
    when 'foreign_domain' then raise exception 'message.from: the domain is not one of this tenant''s'
      using errcode = 'insufficient_privilege', hint = 'Add it: postrider domain add --tenant NAME DOMAIN';
    else raise exception 'the tenant is suspended' using errcode = 'insufficient_privilege';
  end case;
end $$;
