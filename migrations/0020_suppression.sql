-- Whom not to write to: for one tenant or for all, by address or by domain, for all streams or
-- one, for ever or for a time; in the clear or as keyed hashes (docs/suppression.md,
-- docs/adr/0031). Programs of the version before go on beside it: they name the columns they know.

-- ---------------------------------------------------------------- the list
-- address: 'ann@example.org', normalised by the programs; '@example.org' a whole domain;
-- '#' and 43 characters: the keyed hash of either. tenant_id 0: for every tenant.
alter table postrider.suppression
  drop constraint suppression_tenant_id_fkey,
  drop constraint suppression_pkey,
  alter column address type text collate "C",
  add column stream text not null default '',      -- '': all of them
  add column expires_at timestamptz,               -- null: for ever
  add column job_id bigint;                        -- the delivery that it came of

-- What is there already, in the form that is looked for. Not told to anybody: it is no news.
-- As the daemon: its policy shows every tenant's rows.
alter table postrider.suppression disable trigger user;
set local role postrider_worker;
insert into postrider.suppression(tenant_id, address, reason, source, created_at)
select tenant_id, lower(normalize(address)), min(reason), min(source), min(created_at)
from postrider.suppression s
where address <> lower(normalize(address))
  and not exists (select 1 from postrider.suppression k
                  where k.tenant_id = s.tenant_id and k.address = lower(normalize(s.address)))
group by 1, 2;
delete from postrider.suppression where address <> lower(normalize(address));
reset role;
alter table postrider.suppression enable trigger user;

-- expires_at is in the index so that a check reads no table pages; vacuumed after inserts too,
-- which is what lets it stay in the index.
alter table postrider.suppression
  add primary key (tenant_id, address, stream) include (expires_at),
  set (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 10000);
create index suppression_expiry on postrider.suppression(expires_at) where expires_at is not null;
create policy for_everyone on postrider.suppression for select to postrider_api using (tenant_id = 0);
grant update on postrider.suppression to postrider_api;

-- What was on it once: who took it off, when and why.
create table postrider.suppression_past(
  past_id    bigint not null default postrider.mint_id(),
  tenant_id  bigint not null,
  address    text collate "C" not null,
  stream     text not null,
  reason     text not null,
  source     text not null,
  created_at timestamptz not null,
  expires_at timestamptz,
  removed_at timestamptz not null default now(),
  removed_by text not null,
  removal    text not null,                        -- why
  primary key (tenant_id, address, past_id));

-- Days on which a recipient's mailbox could not take mail, one after the other.
create table postrider.soft_bounce(
  tenant_id bigint not null,
  address   text collate "C" not null,
  days      int not null default 1,
  class     text not null,
  by_report boolean not null default false,        -- came back later: a mail that is taken proves nothing
  first_at  timestamptz not null default now(),
  last_at   timestamptz not null default now(),
  primary key (tenant_id, address)) with (fillfactor = 70);
create index soft_bounce_last on postrider.soft_bounce(last_at);

-- Lines of imports that are taken whole or not at all, until their last line has come.
create table postrider.suppression_import(
  tenant_id  bigint not null,
  import_id  bigint not null default postrider.mint_id(),
  n          bigint not null,
  address    text collate "C" not null,
  stream     text not null,
  reason     text not null,
  source     text not null,
  expires_at timestamptz,
  primary key (import_id, n));

-- What the configuration says of soft failures; a daemon writes it at start and reload.
create table postrider.suppression_policy(
  one      boolean primary key default true check (one),
  failures int not null,                           -- days that suppress; 0: none do
  over     interval not null,                      -- spread over at least so long
  lasts    interval not null,                      -- for how long they suppress
  forget   interval not null);                     -- silence after which counting begins anew
insert into postrider.suppression_policy(failures, over, lasts, forget)
values (5, interval '7 days', interval '90 days', interval '30 days');

select postrider.protect(t::regclass) from unnest(array[
  'postrider.suppression_past', 'postrider.soft_bounce', 'postrider.suppression_import']) t;
select postrider.keep_small('postrider.soft_bounce', 'slow');
grant select, insert, delete on postrider.suppression_past to postrider_api, postrider_worker, postrider_operator;
grant select, insert, update, delete on postrider.soft_bounce to postrider_worker, postrider_operator;
grant select, delete on postrider.soft_bounce to postrider_api;
grant select, insert, delete on postrider.suppression_import to postrider_api, postrider_worker, postrider_operator;
grant select on postrider.suppression_policy to postrider_api, postrider_operator;
grant select, update on postrider.suppression_policy to postrider_worker;

do $$
declare t text;
begin
  foreach t in array array['suppression_past', 'suppression_import'] loop
    execute format('create trigger refuse_on_the_move before insert or update or delete on postrider.%I
      for each statement execute function postrider.refuse_on_the_move()', t);
  end loop;
end $$;

-- ---------------------------------------------------------------- putting on and taking off
-- Puts entries on the list of one tenant (0: of all) and says how many are new, or last longer
-- than what was there. What is there and lasts as long keeps its reason.
create function postrider.suppress(
  p_tenant bigint, p_addresses text[], p_streams text[], p_reasons text[], p_sources text[],
  p_expires timestamptz[], p_jobs bigint[]) returns bigint language sql as $$
  with fresh as (
    select distinct on (u.address, coalesce(u.stream, ''))
           u.address, coalesce(u.stream, '') as stream, u.reason, u.source, u.expires_at, u.job_id
    from unnest(p_addresses, p_streams, p_reasons, p_sources, p_expires, p_jobs)
      with ordinality as u(address, stream, reason, source, expires_at, job_id, n)
    order by u.address, coalesce(u.stream, ''), u.expires_at desc nulls first, u.n
  ), put as (
    insert into postrider.suppression(tenant_id, address, stream, reason, source, expires_at, job_id)
    select p_tenant, f.address, f.stream, f.reason, f.source, f.expires_at, f.job_id from fresh f
    on conflict (tenant_id, address, stream) do update
    set reason = excluded.reason, source = excluded.source, created_at = now(),
        expires_at = excluded.expires_at, job_id = excluded.job_id
    where suppression.expires_at < coalesce(excluded.expires_at, 'infinity')
    returning 1
  )
  select count(*) from put
$$;

-- Takes an entry off, into the past; what it was, and nothing if it was not there.
create function postrider.unsuppress(
  p_tenant bigint, p_addresses text[], p_stream text, p_by text, p_why text)
returns setof postrider.suppression_past language sql as $$
  with gone as (
    delete from postrider.suppression s
    where s.tenant_id = p_tenant and s.address = any (p_addresses) and (p_stream is null or s.stream = p_stream)
    returning s.*
  )
  insert into postrider.suppression_past(tenant_id, address, stream, reason, source, created_at, expires_at, removed_by, removal)
  select tenant_id, address, stream, reason, source, created_at, expires_at, p_by, p_why from gone
  returning *
$$;

-- What has run out goes into the past, and counts that nothing followed are forgotten; at most
-- p_rows of each. Says how many were the more.
create function postrider.expire_suppressions(p_rows int) returns bigint language sql as $$
  with gone as (
    delete from postrider.suppression
    where ctid = any (array(
      select ctid from postrider.suppression where expires_at <= now() order by expires_at limit p_rows for update skip locked))
    returning *
  ), past as (
    insert into postrider.suppression_past(tenant_id, address, stream, reason, source, created_at, expires_at, removed_by, removal)
    select tenant_id, address, stream, reason, source, created_at, expires_at, 'postrider', 'its time was over' from gone
    returning 1
  ), counts as (
    delete from postrider.soft_bounce
    where ctid = any (array(
      select b.ctid from postrider.soft_bounce b
      where b.last_at < now() - (select forget from postrider.suppression_policy) limit p_rows for update skip locked))
    returning 1
  ), imports as (
    delete from postrider.suppression_import
    where ctid = any (array(
      select ctid from postrider.suppression_import where import_id < postrider.id_floor(now() - interval '1 day') limit p_rows))
    returning 1
  )
  select greatest((select count(*) from past), (select count(*) from counts), (select count(*) from imports))
$$;

-- ---------------------------------------------------------------- failures that add up
-- A recipient could not take a mail. Counted once in 20 hours, so that a day's retries are one
-- failure. Says whether it is suppressed for it now.
create function postrider.soft_failure(
  p_tenant bigint, p_address text, p_job bigint, p_class text, p_by_report boolean)
returns boolean language plpgsql as $$
declare p postrider.suppression_policy; b postrider.soft_bounce;
begin
  select * into p from postrider.suppression_policy;
  if p.failures = 0 then return false; end if;
  insert into postrider.soft_bounce as s(tenant_id, address, class, by_report)
  values (p_tenant, p_address, p_class, p_by_report)
  on conflict (tenant_id, address) do update
  set days = case when s.last_at < now() - p.forget then 1 else s.days + 1 end,
      first_at = case when s.last_at < now() - p.forget then now() else s.first_at end,
      by_report = s.by_report or excluded.by_report, class = excluded.class, last_at = now()
  where s.last_at < now() - interval '20 hours'
  returning * into b;
  if not found or b.days < p.failures or b.last_at - b.first_at < p.over then return false; end if;
  delete from postrider.soft_bounce where tenant_id = p_tenant and address = p_address;
  return postrider.suppress(p_tenant, array[p_address], array[''], array[b.class],
    array[case when b.by_report then 'report' else 'reply' end], array[now() + p.lasts], array[p_job]) > 0;
end $$;

-- ---------------------------------------------------------------- events
-- As before, and also where an entry was renewed; with the delivery that it came of, whose
-- recipient is told where the list itself has only a hash. What the tenant itself put on its
-- list, and what an operator brought along from elsewhere, is no news to it; what the history
-- told in this transaction is not told twice.
create or replace function postrider.tell_suppressions() returns trigger language plpgsql as $$
declare v_xid bigint;
begin
  if current_setting('postrider.rewriting', true) = 'on' then return null; end if;
  if not exists (select 1 from fresh f join postrider.event_tenant e using (tenant_id)) then return null; end if;
  v_xid := pg_current_xact_id()::text::bigint;
  insert into postrider.event(tenant_id, xid, kind, job_id, message_id, address, detail)
  select f.tenant_id, v_xid, told.kind,
         f.job_id, (select j.message_id from postrider.job j where j.job_id = f.job_id),
         case when f.job_id is null or strpos(f.address, '@') > 0 then f.address end,
         json_strip_nulls(json_build_object('reason', f.reason, 'source', f.source, 'scope', nullif(f.stream, ''),
                                            'until', f.expires_at))
  from fresh f
  join postrider.event_tenant e using (tenant_id)
  join postrider.tenant t using (tenant_id)
  cross join lateral (
    select case when f.reason in ('complaint', 'complained') then 9 when f.reason = 'unsubscribed' then 10 else 4 end
      as kind) told
  where e.enabled and t.residence <> 'arriving' and f.source not in ('api', 'import')
    and (told.kind = 4 or f.job_id is null or not exists (
      select 1 from postrider.event v
      where v.tenant_id = f.tenant_id and v.xid = v_xid and v.kind = told.kind and v.job_id = f.job_id));
  return null;
end $$;
create trigger tell_again after update on postrider.suppression
  referencing new table as fresh for each statement execute function postrider.tell_suppressions();

-- ---------------------------------------------------------------- submission
-- Which of these recipients must not be written to in this stream; positions from 1. p_of and
-- p_probes are pairs: a position, and a form under which the list may name that recipient or
-- its domain. Without them (an application that submits by SQL) the clear forms are looked for;
-- the claim looks for all of them again.
create function postrider.held_recipients(
  p_tenant bigint, p_stream text, p_recipients text[], p_of int[], p_probes text[])
returns int[] language plpgsql as $$
declare v_held int[]; v_clear boolean;
begin
  if p_probes is null then
    select array_agg(n), array_agg(probe) into p_of, p_probes
    from unnest(p_recipients) with ordinality as r(recipient, n)
    cross join lateral (values (lower(normalize(recipient))), ('@' || postrider.domain_of(recipient))) p(probe);
  end if;
  -- Where nothing is there in the clear (hashes begin with #, and sort before), clear forms are
  -- not looked for.
  v_clear := (select s.address from postrider.suppression s
              where s.tenant_id = p_tenant and s.address >= '$' order by s.address limit 1) is not null
    or (select s.address from postrider.suppression s
        where s.tenant_id = 0 and s.address >= '$' order by s.address limit 1) is not null;
  with probe as materialized (
    select distinct p as address from unnest(p_probes) p where v_clear or p collate "C" < '$'
  ), hit as materialized (
    select p.address from probe p
    cross join lateral (
      select 1 from postrider.suppression s
      where s.tenant_id = any (array[0, p_tenant]) and s.address = p.address
        and (s.stream = '' or s.stream = p_stream) and (s.expires_at is null or s.expires_at > now())
      limit 1) found
  )
  select array_agg(distinct u.n) into v_held
  from unnest(p_of, p_probes) as u(n, address) join hit using (address);
  return coalesce(v_held, '{}');
end $$;

-- As before, but for who is held.
drop function postrider.enqueue(bigint, bigint, int, smallint, timestamptz, timestamptz, text[], text[]);
create function postrider.enqueue(
  p_tenant bigint, p_message bigint, p_stream int, p_prio smallint,
  p_expires timestamptz, p_due timestamptz, p_recipients text[], p_payloads text[],
  p_of int[], p_probes text[],
  out accepted int, out suppressed int[])
language plpgsql as $$
declare
  v_held int[] := postrider.held_recipients(p_tenant,
    (select s.name from postrider.stream s where s.stream_id = p_stream), p_recipients, p_of, p_probes);
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

  with held as materialized (
    select n from unnest(v_held) n
  ), r as materialized (
    select u.recipient, u.payload, u.n::int - 1 as n, l.lane_id, postrider.mint_id() as job_id,
           h.n is not null as held
    from unnest(p_recipients, p_payloads) with ordinality as u(recipient, payload, n)
    left join held h on h.n = u.n
    left join postrider.domain_pool dp on dp.domain = postrider.domain_of(u.recipient)
    join postrider.lane l on l.tenant_id = p_tenant and l.pool_id = coalesce(dp.pool_id, 0)
      and l.prio = p_prio and l.stream_id = p_stream
  ), jobs as (
    insert into postrider.job(job_id, tenant_id, message_id, lane_id, expires_at, recipient, payload)
    select job_id, p_tenant, p_message, lane_id, p_expires, recipient, payload from r where not held
  ), queued as (
    -- What is due long after its generation would be emptied is parked at once.
    insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at)
    select case when p_due > now() + interval '15 minutes' then 4 else (select cur from postrider.generation) end,
           lane_id, coalesce(p_due, now()), job_id, p_tenant, p_expires
    from r where not held
  ), wakes as (
    insert into postrider.lane_wake(at, lane_id)
    select w.at, w.lane_id
    from (select distinct date_trunc('second', p_due + interval '999999 microseconds') as at, lane_id
          from r where not held and p_due is not null) w
    -- A row that is about to be used up may be gone before this transaction commits.
    where w.at < now() + interval '5 seconds' or not exists (
      select 1 from postrider.lane_wake k where k.at = w.at and k.lane_id = w.lane_id)
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

drop function postrider.submit(bigint, text, text, json, timestamptz, timestamptz, text[], text[], bytea, bytea, json);
-- A new message with its first recipients (there may be none: a campaign's follow).
-- status: ok, replayed (same key, same body), conflict (same key, other body),
--         no_tenant, foreign_domain.
create function postrider.submit(
  p_tenant bigint, p_from_domain text, p_stream text, p_content json,
  p_send_at timestamptz, p_expires_at timestamptz, p_recipients text[], p_payloads text[],
  p_key bytea default null, p_body_hash bytea default null, p_answer json default null,
  p_of int[] default null, p_probes text[] default null,
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
      case when p_send_at > now() then p_send_at end, p_recipients, p_payloads, p_of, p_probes) e;
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

drop function postrider.append_recipients(bigint, bigint, text[], text[], bytea, int, bytea);
-- More recipients for a message, exactly once per (upload, chunk).
-- status: ok, replayed, conflict (this chunk was stored with other lines), missing, cancelled, expired.
-- A message that is called back while this runs raises object_not_in_prerequisite_state.
create function postrider.append_recipients(
  p_tenant bigint, p_message bigint, p_recipients text[], p_payloads text[],
  p_upload bytea, p_chunk int, p_digest bytea,
  p_of int[] default null, p_probes text[] default null,
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
      case when m.send_at > now() then m.send_at end, p_recipients, p_payloads, p_of, p_probes) e;
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

-- ---------------------------------------------------------------- unsubscribing
-- Whose recipient a delivery is, and of which stream. Whoever asks has verified a link that this
-- installation signed; from here on the transaction acts for that tenant. (unsubscribe, which
-- knows nothing of streams and hashes, is still called by programs of the version before.)
create function postrider.link_target(
  p_job bigint, out tenant_id bigint, out recipient text, out stream text)
language plpgsql as $$
#variable_conflict use_column
begin
  perform set_config('postrider.delivery', p_job::text, true);
  select j.tenant_id, j.recipient into tenant_id, recipient from postrider.job j where j.job_id = p_job;
  if tenant_id is null then return; end if;
  perform set_config('postrider.tenant', tenant_id::text, true);
  select s.name into stream
  from postrider.job j join postrider.lane l using (lane_id) join postrider.stream s using (stream_id)
  where j.job_id = p_job;
end $$;

-- ---------------------------------------------------------------- imports and keys
-- Takes over the lines of an import that came whole; how many are new or last longer.
create function postrider.suppress_import(p_tenant bigint, p_import bigint) returns bigint language sql as $$
  with lines as (
    delete from postrider.suppression_import where tenant_id = p_tenant and import_id = p_import returning *
  ), fresh as (
    select distinct on (l.address, l.stream) l.* from lines l
    order by l.address, l.stream, l.expires_at desc nulls first, l.n
  ), put as (
    insert into postrider.suppression(tenant_id, address, stream, reason, source, expires_at)
    select p_tenant, f.address, f.stream, f.reason, f.source, f.expires_at from fresh f
    on conflict (tenant_id, address, stream) do update
    set reason = excluded.reason, source = excluded.source, created_at = now(),
        expires_at = excluded.expires_at, job_id = excluded.job_id
    where suppression.expires_at < coalesce(excluded.expires_at, 'infinity')
    returning 1
  )
  select count(*) from put
$$;

-- The key that this list's hashes were made with, by a mark that does not tell it. A program with
-- another key would find nobody on the list and does not start.
create table postrider.suppression_key(
  one   boolean primary key default true check (one),
  mark  text not null,
  since timestamptz not null default now());
grant select, insert on postrider.suppression_key to postrider_api, postrider_worker, postrider_operator;
