-- Submission: one statement per call, so accepted means committed, and the same
-- function serves the HTTP API, the command line and applications that submit
-- from SQL inside their own transaction.

create function postrider.domain_of(address text) returns text
language sql immutable parallel safe strict as
$$ select substr(address, length(address) - strpos(reverse(address), '@') + 2) $$;

-- The written form of an id (Crockford's base 32, sorts as the number does).
create function postrider.written_id(prefix text, id bigint) returns text
language sql immutable parallel safe strict as $$
  select prefix || string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((id >> (5 * p)) & 31)::int + 1, 1), '' order by p desc)
  from generate_series(0, 12) p
$$;

-- Recipients of one message into the queue. Says how many were accepted and the
-- positions (from 0) of those that are suppressed.
create function postrider.enqueue(
  p_tenant bigint, p_message bigint, p_stream int, p_prio smallint,
  p_expires timestamptz, p_due timestamptz, p_recipients text[], p_payloads text[],
  out accepted int, out suppressed int[])
language plpgsql as $$
begin
  -- A lane is made together with its hint, so that nobody else ever has to insert one.
  with made as (
    insert into postrider.lane(tenant_id, pool_id, prio, stream_id)
    select distinct p_tenant, coalesce(dp.pool_id, 0), p_prio, p_stream
    from (select distinct postrider.domain_of(r) as domain from unnest(p_recipients) r) x
    left join postrider.domain_pool dp using (domain)
    where not exists (
      select 1 from postrider.lane l
      where l.tenant_id = p_tenant and l.pool_id = coalesce(dp.pool_id, 0) and l.prio = p_prio and l.stream_id = p_stream)
    order by 2
    on conflict do nothing
    returning lane_id
  )
  insert into postrider.lane_hint(lane_id) select lane_id from made order by 1 on conflict do nothing;

  with r as materialized (
    select u.recipient, u.payload, u.n::int - 1 as n, l.lane_id, postrider.mint_id() as job_id,
           exists (select 1 from postrider.suppression s
                   where s.tenant_id = p_tenant and s.address = u.recipient) as held
    from unnest(p_recipients, p_payloads) with ordinality as u(recipient, payload, n)
    left join postrider.domain_pool dp on dp.domain = postrider.domain_of(u.recipient)
    join postrider.lane l on l.tenant_id = p_tenant and l.pool_id = coalesce(dp.pool_id, 0)
      and l.prio = p_prio and l.stream_id = p_stream
  ), jobs as (
    insert into postrider.job(job_id, tenant_id, message_id, lane_id, expires_at, recipient, payload)
    select job_id, p_tenant, p_message, lane_id, p_expires, recipient, payload from r where not held
  ), now_ready as (
    insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at)
    select (select cur from postrider.generation), lane_id, now(), job_id, p_tenant, p_expires
    from r where not held and p_due is null
  ), later as (
    insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at)
    select p_due, job_id, lane_id, p_tenant, p_expires from r where not held and p_due is not null
  ), hints as (
    -- About once a second, and never waiting for another's transaction, however long.
    update postrider.lane_hint set hinted_at = clock_timestamp()
    where lane_id in (
      select h.lane_id from postrider.lane_hint h
      where h.lane_id in (select lane_id from r where not held and p_due is null)
        and h.hinted_at < now() - interval '1 second'
      order by 1 for update skip locked)
  )
  select count(*) filter (where not held), coalesce(array_agg(n order by n) filter (where held), '{}')
  into accepted, suppressed from r;
  -- The two statements above read the same directory under two snapshots; should a domain
  -- have changed its pool in between, the caller repeats the whole.
  if accepted + cardinality(suppressed) <> cardinality(p_recipients) then
    raise exception 'a recipient''s pool changed meanwhile' using errcode = 'serialization_failure';
  end if;
end $$;

-- A new message with its first recipients (there may be none: a campaign's follow).
-- status: ok, replayed (same key, same body), conflict (same key, other body),
--         no_tenant, foreign_domain.
create function postrider.submit(
  p_tenant bigint, p_from_domain text, p_stream text, p_content json,
  p_send_at timestamptz, p_expires_at timestamptz, p_recipients text[], p_payloads text[],
  p_key bytea default null, p_body_hash bytea default null, p_answer json default null,
  out status text, out message_id bigint, out accepted int, out suppressed int[], out answer json)
language plpgsql as $$
#variable_conflict use_column
declare
  v_policy postrider.stream_policy;
  v_stream int;
  v_id bigint := postrider.mint_id();
  v_known postrider.idempotency;
  v_expires timestamptz;
begin
  perform set_config('postrider.tenant', p_tenant::text, true);
  accepted := 0; suppressed := '{}';
  if not exists (select 1 from postrider.tenant t where t.tenant_id = p_tenant and t.state = 'active') then
    status := 'no_tenant'; return;
  end if;
  if not exists (select 1 from postrider.sending_domain d where d.tenant_id = p_tenant and d.domain = p_from_domain) then
    status := 'foreign_domain'; return;
  end if;

  if p_key is not null then
    insert into postrider.idempotency(tenant_id, key_hash, body_hash, message_id, expires_at)
    values (p_tenant, p_key, p_body_hash, v_id, now() + interval '72 hours')
    on conflict do nothing;
    if not found then
      select * into v_known from postrider.idempotency i where i.tenant_id = p_tenant and i.key_hash = p_key;
      message_id := v_known.message_id;
      answer := v_known.answer;
      status := case when v_known.body_hash = p_body_hash then 'replayed' else 'conflict' end;
      return;
    end if;
  end if;

  select * into v_policy from postrider.stream_policy sp where sp.name = p_stream;
  if not found then
    select * into v_policy from postrider.stream_policy sp where sp.name = 'bulk';
  end if;
  select s.stream_id into v_stream from postrider.stream s where s.tenant_id = p_tenant and s.name = p_stream;
  if v_stream is null then
    insert into postrider.stream(tenant_id, name) values (p_tenant, p_stream) on conflict do nothing;
    select s.stream_id into v_stream from postrider.stream s where s.tenant_id = p_tenant and s.name = p_stream;
  end if;

  v_expires := coalesce(p_expires_at, coalesce(p_send_at, now()) + v_policy.ttl);
  if cardinality(p_recipients) > 0 then
    select e.accepted, e.suppressed into accepted, suppressed
    from postrider.enqueue(p_tenant, v_id, v_stream, v_policy.prio, v_expires,
      case when p_send_at > now() then p_send_at end, p_recipients, p_payloads) e;
  end if;
  insert into postrider.message(message_id, tenant_id, stream_id, send_at, expires_at, accepted, suppressed, content)
  values (v_id, p_tenant, v_stream, p_send_at, v_expires, accepted, cardinality(suppressed), p_content);
  message_id := v_id;
  status := 'ok';
  if p_key is not null then
    answer := json_build_object('accepted', accepted, 'suppressed', suppressed,
      'suppressed_to', array(select p_recipients[n + 1] from unnest(suppressed) n order by n), 'given', p_answer);
    update postrider.idempotency i set answer = submit.answer where i.tenant_id = p_tenant and i.key_hash = p_key;
  end if;
end $$;

-- More recipients for a message, exactly once per (upload, chunk).
-- status: ok, replayed, conflict (this chunk was stored with other lines), missing, cancelled, expired.
-- A message that is called back while this runs raises object_not_in_prerequisite_state.
create function postrider.append_recipients(
  p_tenant bigint, p_message bigint, p_recipients text[], p_payloads text[],
  p_upload bytea, p_chunk int, p_digest bytea,
  out status text, out accepted int, out suppressed int)
language plpgsql as $$
#variable_conflict use_column
declare m record; v_known postrider.upload_chunk;
begin
  perform set_config('postrider.tenant', p_tenant::text, true);
  accepted := 0; suppressed := 0;
  select msg.stream_id, msg.send_at, msg.expires_at, msg.cancelled_at, coalesce(sp.prio, bulk.prio) as prio into m
  from postrider.message msg
  join postrider.stream s using (stream_id)
  join postrider.stream_policy bulk on bulk.name = 'bulk'
  left join postrider.stream_policy sp on sp.name = s.name
  where msg.message_id = p_message and msg.tenant_id = p_tenant;
  if not found then status := 'missing'; return; end if;

  -- A repeated chunk gets its first answer, whatever became of the message since.
  if (m.cancelled_at is not null or m.expires_at <= now()) and not exists (
    select 1 from postrider.upload_chunk u
    where u.tenant_id = p_tenant and u.message_id = p_message and u.upload = p_upload and u.chunk = p_chunk)
  then
    status := case when m.cancelled_at is not null then 'cancelled' else 'expired' end;
    return;
  end if;

  if p_upload is not null then
    insert into postrider.upload_chunk(tenant_id, message_id, upload, chunk, digest, accepted, suppressed)
    values (p_tenant, p_message, p_upload, p_chunk, p_digest, 0, 0) on conflict do nothing;
    if not found then
      select * into v_known from postrider.upload_chunk u
      where u.tenant_id = p_tenant and u.message_id = p_message and u.upload = p_upload and u.chunk = p_chunk;
      if v_known.digest <> p_digest then status := 'conflict'; return; end if;
      status := 'replayed'; accepted := v_known.accepted; suppressed := v_known.suppressed;
      return;
    end if;
  end if;
  if cardinality(p_recipients) > 0 then
    select e.accepted, cardinality(e.suppressed) into accepted, suppressed
    from postrider.enqueue(p_tenant, p_message, m.stream_id, m.prio, m.expires_at,
      case when m.send_at > now() then m.send_at end, p_recipients, p_payloads) e;
    if p_upload is not null then
      update postrider.upload_chunk u set accepted = append_recipients.accepted, suppressed = append_recipients.suppressed
      where u.tenant_id = p_tenant and u.message_id = p_message and u.upload = p_upload and u.chunk = p_chunk;
    end if;
    -- Last, so that parallel chunks hold this row for the length of a commit only. A cancellation
    -- that committed meanwhile may have swept already, so these recipients must not be stored.
    update postrider.message msg
    set accepted = msg.accepted + append_recipients.accepted, suppressed = msg.suppressed + append_recipients.suppressed
    where msg.message_id = p_message and msg.cancelled_at is null;
    if not found then
      raise exception 'the message was cancelled' using errcode = 'object_not_in_prerequisite_state';
    end if;
  end if;
  status := 'ok';
end $$;

-- Calls a message back. What is in hand may still go out; nothing new starts.
create function postrider.cancel_message(p_tenant bigint, p_message bigint) returns boolean
language plpgsql as $$
begin
  perform set_config('postrider.tenant', p_tenant::text, true);
  update postrider.message set cancelled_at = coalesce(cancelled_at, now())
  where message_id = p_message and tenant_id = p_tenant;
  if not found then return false; end if;
  insert into postrider.cancellation(message_id, tenant_id) values (p_message, p_tenant) on conflict do nothing;
  return true;
end $$;

-- The recipient of a delivery asks for no further mail of its tenant. Whoever calls has
-- verified a link that this installation signed; the delivery is all it knows, so this
-- one job is seen before the tenant is known.
-- Null when the delivery is no longer known, else whether it is new.
create policy by_link on postrider.job for select to postrider_api
  using (job_id = (select nullif(current_setting('postrider.delivery', true), '')::bigint));
create function postrider.unsubscribe(p_job bigint) returns boolean
language plpgsql as $$
declare j record;
begin
  perform set_config('postrider.delivery', p_job::text, true);
  select tenant_id, recipient into j from postrider.job where job_id = p_job;
  if not found then return null; end if;
  perform set_config('postrider.tenant', j.tenant_id::text, true);
  insert into postrider.suppression(tenant_id, address, reason, source)
  values (j.tenant_id, j.recipient, 'unsubscribed', 'recipient')
  on conflict do nothing;
  return found;
end $$;

-- For applications on the same Postgres: submit inside your own transaction.
--
--   select postrider.send('{"from": "Shop <orders@shop.example>", "subject": "Hello {{ name }}",
--     "text": "Hi {{ name }}", "stream": "transactional",
--     "recipients": [{"to": "ann@example.org", "vars": {"name": "Ann"}}]}');
--
-- Takes the fields of POST /v1/messages and gives back the message id. The mail exists
-- if and only if your transaction commits. Your login is bound to a tenant by
-- `postrider tenant login`; it needs no right but to call this function.
create function postrider.send(message json, idempotency_key text default null) returns text
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
        where k in ('vars', 'to', 'cc') and json_typeof(v) <> 'null')::text;
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

-- Only a login that was let in may call it; the operator lets in.
revoke all on function postrider.send(json, text) from public;
grant execute on function postrider.send(json, text) to postrider_operator with grant option;
-- Runs with the API role's rights and no more (row-level security applies inside).
grant create on schema postrider to postrider_api;
alter function postrider.send(json, text) owner to postrider_api;
revoke create on schema postrider from postrider_api;
