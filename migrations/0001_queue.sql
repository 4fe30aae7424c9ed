-- postrider's schema, first version. Everything lives in the schema "postrider".
--
-- Rules of this file (docs/lifecycle.md explains them):
--   * The state of a delivery is the table its row is in. Hot tables see insert
--     and delete only, and their generations are truncated.
--   * Every table with tenant_id has FORCED row-level security. The API's role
--     sees the tenant named by the setting postrider.tenant and nothing when it
--     is unset; the daemon serves all tenants and says so by a policy of its own;
--     the operator sees all, or only the tenant that the setting names. No
--     run-time role owns a table.
--   * Only the clock of this database decides about time.

create schema postrider;

-- ---------------------------------------------------------------- roles
-- Roles belong to the cluster, so they may exist already (another database).
do $$
declare r text;
begin
  foreach r in array array['postrider_worker', 'postrider_api', 'postrider_operator'] loop
    begin
      execute format('create role %I nologin nosuperuser nobypassrls', r);
    exception when duplicate_object or unique_violation then null;
    end;
    -- Whoever migrates may also act as each role (a superuser may anyway).
    if not (select rolsuper from pg_roles where rolname = current_user) then
      execute format('grant %I to current_user', r);
    end if;
  end loop;
end $$;

grant usage on schema postrider to postrider_worker, postrider_api;
-- The operator lets an application's login in: `postrider tenant login`.
grant usage on schema postrider to postrider_operator with grant option;

-- Every binary looks at start whether the schema fits it.
do $$ begin
  if to_regclass('_sqlx_migrations') is not null then
    grant select on _sqlx_migrations to postrider_worker, postrider_api, postrider_operator;
  end if;
end $$;

-- The tenant this session or transaction acts for; null when unset, and then no row is seen.
create function postrider.current_tenant() returns bigint
language sql stable parallel safe as
$$ select nullif(current_setting('postrider.tenant', true), '')::bigint $$;

-- Ids are milliseconds since 2020 << 22 | sequence: they sort by time, and a range of ids is a range of time.
create sequence postrider.id_seq;
-- (nextval keeps it unique; 22 bits of it last 4 million ids a millisecond)
create function postrider.mint_id() returns bigint
language sql volatile as
$$ select (((date_part('epoch', clock_timestamp()) - 1577836800) * 1000)::bigint << 22) | (nextval('postrider.id_seq') & 4194303) $$;
create function postrider.id_floor(at timestamptz) returns bigint
language sql immutable parallel safe as
$$ select greatest(((date_part('epoch', at) - 1577836800) * 1000)::bigint, 0) << 22 $$;

-- Puts the house rule for tenant tables on one table (also on partitions, which
-- are addressed directly on the hot path).
create function postrider.protect(t regclass) returns void language plpgsql as $$
begin
  execute format('alter table %s enable row level security', t);
  execute format('alter table %s force row level security', t);
  execute format('create policy tenant on %s to postrider_api
                    using (tenant_id = (select postrider.current_tenant()))
                    with check (tenant_id = (select postrider.current_tenant()))', t);
  execute format('create policy every_tenant on %s to postrider_worker
                    using (true) with check (true)', t);
  execute format('create policy named_tenant on %s to postrider_operator
                    using ((select postrider.current_tenant()) is null
                           or tenant_id = (select postrider.current_tenant()))
                    with check ((select postrider.current_tenant()) is null
                           or tenant_id = (select postrider.current_tenant()))', t);
end $$;

-- ---------------------------------------------------------------- tenants
create table postrider.tenant(
  tenant_id     bigint generated always as identity primary key,
  name          text not null unique check (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  state         text not null default 'active' check (state in ('active', 'suspended')),
  weight        int not null default 100 check (weight between 1 and 10000),
  created_at    timestamptz not null default now());

-- The database login of an application that submits by SQL, bound to its tenant.
create table postrider.tenant_login(
  login     name primary key,
  tenant_id bigint not null references postrider.tenant);

create table postrider.api_key(
  key_id       bigint generated always as identity primary key,
  tenant_id    bigint not null references postrider.tenant,
  prefix       text not null unique,
  hash         bytea not null,                 -- SHA-256 of the whole key (256 random bits)
  name         text not null default '',
  created_at   timestamptz not null default now(),
  revoked_at   timestamptz);

create table postrider.sending_domain(
  tenant_id   bigint not null references postrider.tenant,
  domain      text not null,
  signed      boolean not null default true,   -- false: an operator asked for mail without DKIM
  created_at  timestamptz not null default now(),
  primary key (tenant_id, domain));
-- One tenant per domain: nobody signs with another's name.
create unique index sending_domain_owner on postrider.sending_domain(domain);

create table postrider.dkim_key(
  tenant_id   bigint not null,
  domain      text not null,
  selector    text not null,
  algorithm   text not null check (algorithm in ('rsa-sha256', 'ed25519-sha256')),
  public_key  bytea not null,                  -- as published in p=
  sealed      bytea not null,                  -- private key, AES-256-GCM under the key-encryption key
  created_at  timestamptz not null default now(),
  retired_at  timestamptz,
  primary key (tenant_id, domain, selector),
  foreign key (tenant_id, domain) references postrider.sending_domain on delete cascade);

create table postrider.stream(
  stream_id  int generated always as identity primary key,
  tenant_id  bigint not null references postrider.tenant,
  name       text not null,
  unique (tenant_id, name));

-- What the configuration says of a stream of this name, for every tenant; the
-- daemon writes it at start and reload, so that SQL submissions follow it too.
create table postrider.stream_policy(
  name      text primary key,
  bulk      boolean not null,
  prio      smallint not null check (prio between 0 and 3),  -- 0 first
  ttl       interval not null,
  on_doubt  text not null check (on_doubt in ('resend', 'hold')));
insert into postrider.stream_policy values
  ('transactional', false, 0, interval '48 hours', 'resend'),
  ('bulk',          true,  3, interval '72 hours', 'resend');

create table postrider.suppression(
  tenant_id   bigint not null references postrider.tenant,
  address     text not null,                   -- normalised
  reason      text not null,
  source      text not null,                   -- 'reply', 'operator', 'api', 'recipient'
  created_at  timestamptz not null default now(),
  primary key (tenant_id, address));

-- ---------------------------------------------------------------- lanes
create table postrider.pool(
  pool_id smallint generated always as identity (start with 1 minvalue 0) primary key,
  name    text not null unique);
insert into postrider.pool(pool_id, name) overriding system value values (0, 'other');

-- Which recipient domain belongs to which destination pool.
create table postrider.domain_pool(
  domain  text primary key,
  pool_id smallint not null references postrider.pool,
  origin  text not null check (origin in ('config', 'mx')));

create table postrider.lane(
  lane_id   int generated always as identity primary key,
  tenant_id bigint not null,
  pool_id   smallint not null,
  prio      smallint not null,
  stream_id int not null,
  unique (tenant_id, pool_id, prio, stream_id));

-- "This lane got work": a hint, never the truth; about one touch per lane and second.
create table postrider.lane_hint(
  lane_id   int primary key,
  hinted_at timestamptz not null default now()) with (fillfactor = 50);
create index lane_hint_recent on postrider.lane_hint(hinted_at);

-- What claimers must leave alone: T tenant, P pool, S stream, L lane.
create table postrider.block(
  scope  text not null check (scope in ('T', 'P', 'S', 'L')),
  key    bigint not null,
  until  timestamptz not null,
  reason text not null,
  primary key (scope, key));

-- ---------------------------------------------------------------- sessions
create table postrider.worker_session(
  session_id bigint generated always as identity primary key,
  worker     text not null,                    -- for people; identity is the number
  started_at timestamptz not null default now(),
  beat_at    timestamptz not null default now(),
  state      text not null default 'alive' check (state in ('alive', 'draining', 'fenced'))
) with (fillfactor = 50);

-- ---------------------------------------------------------------- messages and jobs
create table postrider.message(
  message_id   bigint not null,
  tenant_id    bigint not null,
  stream_id    int not null,
  created_at   timestamptz not null default now(),
  send_at      timestamptz,
  expires_at   timestamptz not null,
  accepted     bigint not null default 0,
  suppressed   bigint not null default 0,
  cancelled_at timestamptz,
  content      json not null,
  primary key (message_id)) partition by range (message_id);
create index message_tenant on postrider.message(tenant_id, message_id);

create table postrider.job(
  job_id     bigint not null,
  tenant_id  bigint not null,
  message_id bigint not null,
  lane_id    int not null,
  expires_at timestamptz not null,
  recipient  text not null,                    -- envelope address, normalised
  payload    text,                             -- JSON: personal variables, display form, cc
  primary key (job_id)) partition by range (job_id);
create index job_message on postrider.job(message_id, job_id);

-- Messages called back whose rows may still wait; swept by the maintenance.
create table postrider.cancellation(
  message_id bigint primary key,
  tenant_id  bigint not null,
  asked_at   timestamptz not null default now(),
  done_at    timestamptz);

-- The generation that new rows of ready and lease go to.
create table postrider.generation(
  one         boolean primary key default true check (one),
  cur         smallint not null check (cur between 0 and 3),
  live        smallint[] not null default '{0}',        -- not truncated since they were current, oldest first
  switched_at timestamptz not null default now());
insert into postrider.generation(cur) values (0);

create table postrider.ready(
  gen       smallint not null,
  lane_id   int not null,
  run_at    timestamptz not null,
  job_id    bigint not null,
  tenant_id bigint not null,
  expires_at timestamptz not null,
  attempt   smallint not null default 0,       -- attempts that counted
  hold      int not null default 0,            -- claims ever made: the fence
  suspect   boolean not null default false     -- its last worker died: outcome unknown
) partition by list (gen);

create table postrider.lease(
  gen        smallint not null,
  session_id bigint not null,
  job_id     bigint not null,
  lane_id    int not null,
  tenant_id  bigint not null,
  expires_at timestamptz not null,
  attempt    smallint not null,
  hold       int not null,
  suspect    boolean not null default false,
  claimed_at timestamptz not null default now()) partition by list (gen);

do $$
declare g int;
begin
  for g in 0..3 loop
    execute format('create table postrider.ready_g%1$s partition of postrider.ready for values in (%1$s)', g);
    execute format('alter table postrider.ready_g%s add primary key (lane_id, run_at, job_id)', g);
    execute format('create table postrider.lease_g%1$s partition of postrider.lease for values in (%1$s)', g);
    execute format('alter table postrider.lease_g%s add primary key (session_id, job_id)', g);
    execute format('alter table postrider.ready_g%s set (autovacuum_vacuum_scale_factor = 0,
      autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)', g);
    execute format('alter table postrider.lease_g%s set (autovacuum_vacuum_scale_factor = 0,
      autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)', g);
  end loop;
end $$;

create table postrider.deferred(
  due_at     timestamptz not null,
  job_id     bigint not null,
  lane_id    int not null,
  tenant_id  bigint not null,
  expires_at timestamptz not null,
  attempt    smallint not null default 0,
  hold       int not null default 0,
  suspect    boolean not null default false,
  primary key (due_at, job_id));
create index deferred_job on postrider.deferred(job_id);

-- ---------------------------------------------------------------- history and ends
-- One row per counted attempt and per end. kind:
--   1 delivered  2 bounced  3 expired  4 suppressed  5 cancelled      (ends)
--   6 dead-lettered (an end while its row stands in dead_letter)
--   7 deferred   8 interrupted (its worker died)
create table postrider.attempt(
  at         timestamptz not null default now(),
  tenant_id  bigint not null,
  message_id bigint not null,
  job_id     bigint not null,
  attempt    smallint not null,
  kind       smallint not null check (kind between 1 and 8),
  in_doubt   boolean not null default false,   -- may have been delivered before, or may be delivered twice
  code       smallint,
  next_at    timestamptz,
  detail     json                              -- route, source, host, ip, tls, stage, reply, class, reach, took_ms
) partition by range (at);
create index attempt_message on postrider.attempt(message_id, kind, job_id);

create table postrider.dead_letter(
  tenant_id  bigint not null,
  job_id     bigint not null,
  message_id bigint not null,
  lane_id    int not null,
  attempts   smallint not null,
  hold       int not null,
  reason     text not null check (reason in ('malformed', 'crashed', 'doubt', 'interrupted')),
  detail     text,
  dead_at    timestamptz not null default now(),
  replays    smallint not null default 0,
  recipient  text not null,
  payload    text,
  primary key (tenant_id, job_id));
create index dead_letter_message on postrider.dead_letter(message_id, job_id);

-- ---------------------------------------------------------------- idempotency
create table postrider.idempotency(
  tenant_id  bigint not null,
  key_hash   bytea not null,
  body_hash  bytea not null,
  message_id bigint not null,
  answer     json,
  expires_at timestamptz not null,
  primary key (tenant_id, key_hash)) partition by hash (tenant_id);
create index idempotency_expiry on postrider.idempotency(expires_at);
create table postrider.idempotency_0 partition of postrider.idempotency for values with (modulus 4, remainder 0);
create table postrider.idempotency_1 partition of postrider.idempotency for values with (modulus 4, remainder 1);
create table postrider.idempotency_2 partition of postrider.idempotency for values with (modulus 4, remainder 2);
create table postrider.idempotency_3 partition of postrider.idempotency for values with (modulus 4, remainder 3);

-- Parts of a streamed recipient list that are stored: a repeated upload adds nothing.
create table postrider.upload_chunk(
  tenant_id  bigint not null,
  message_id bigint not null,
  upload     bytea not null,                   -- hash of the upload's idempotency key
  chunk      int not null,
  digest     bytea not null,                   -- of the part's lines: the same place must hold the same part
  accepted   int not null,
  suppressed int not null,
  primary key (tenant_id, message_id, upload, chunk));

-- ---------------------------------------------------------------- maintenance
-- The row is the right to run: exactly once per cluster.
create table postrider.cron_fire(
  task       text not null,
  fire_at    timestamptz not null,
  session_id bigint,
  primary key (task, fire_at));

-- Partitions by day: message and job by id, attempt by time. Owner's rights,
-- because run-time roles own nothing.
create function postrider.ensure_partitions(days_ahead int) returns int
language plpgsql security definer set search_path = pg_catalog, postrider set timezone = 'UTC'
  set lock_timeout = '500ms' as $$
declare d date; made int := 0; name text; parent text;
begin
  -- A day that cannot be made (rows of it lie in the default partition already, or somebody
  -- holds a lock on the parent) does not keep the others from being made.
  for d in select generate_series(current_date - 1, current_date + days_ahead, interval '1 day')::date loop
    foreach parent in array array['message', 'job', 'attempt'] loop
      name := format('%s_%s', parent, to_char(d, 'YYYYMMDD'));
      continue when to_regclass('postrider.' || name) is not null;
      begin
        if parent = 'attempt' then
          execute format('create table postrider.%I partition of postrider.attempt for values from (%L) to (%L)',
            name, d::timestamptz, (d + 1)::timestamptz);
        else
          execute format('create table postrider.%I partition of postrider.%I for values from (%s) to (%s)',
            name, parent, postrider.id_floor(d::timestamptz), postrider.id_floor((d + 1)::timestamptz));
        end if;
        perform postrider.protect(('postrider.' || quote_ident(name))::regclass);
        made := made + 1;
      exception when check_violation or lock_not_available or duplicate_table then null;
      end;
    end loop;
  end loop;
  return made;
end $$;
revoke all on function postrider.ensure_partitions(int) from public;
revoke all on function postrider.protect(regclass) from public;

do $$
declare t text;
begin
  foreach t in array array[
    'tenant', 'tenant_login', 'api_key', 'sending_domain', 'dkim_key', 'stream', 'suppression', 'lane',
    'message', 'job', 'cancellation', 'ready', 'lease', 'deferred', 'attempt', 'dead_letter',
    'idempotency', 'idempotency_0', 'idempotency_1', 'idempotency_2', 'idempotency_3', 'upload_chunk',
    'ready_g0', 'ready_g1', 'ready_g2', 'ready_g3', 'lease_g0', 'lease_g1', 'lease_g2', 'lease_g3'] loop
    perform postrider.protect(('postrider.' || t)::regclass);
  end loop;
end $$;

-- A safety net: should the maintenance have been away for days, nothing is refused.
create table postrider.message_default partition of postrider.message default;
create table postrider.job_default partition of postrider.job default;
create table postrider.attempt_default partition of postrider.attempt default;
select postrider.protect('postrider.message_default'), postrider.protect('postrider.job_default'),
       postrider.protect('postrider.attempt_default');
select postrider.ensure_partitions(3);

-- Before the tenant is known, the API may see the one key whose prefix it was shown.
drop policy tenant on postrider.api_key;
create policy tenant on postrider.api_key to postrider_api
  using (tenant_id = (select postrider.current_tenant())
         or prefix = (select nullif(current_setting('postrider.key_prefix', true), '')));

-- A login may see which tenant it is bound to (postrider.send asks).
drop policy tenant on postrider.tenant_login;
create policy tenant on postrider.tenant_login to postrider_api
  using (tenant_id = (select postrider.current_tenant()) or login = session_user);

-- ---------------------------------------------------------------- rights
-- API: its tenant's rows; never leases, sessions or other machinery.
grant select, insert, update on postrider.message, postrider.cancellation, postrider.stream to postrider_api;
grant select, insert on postrider.job, postrider.ready, postrider.deferred, postrider.lane,
  postrider.idempotency, postrider.upload_chunk to postrider_api;
grant update (answer) on postrider.idempotency to postrider_api;
grant update (accepted, suppressed) on postrider.upload_chunk to postrider_api;
grant select, insert, delete on postrider.suppression to postrider_api;
grant select on postrider.attempt, postrider.dead_letter, postrider.lease, postrider.tenant,
  postrider.sending_domain, postrider.generation, postrider.pool, postrider.domain_pool,
  postrider.stream_policy, postrider.api_key, postrider.tenant_login, postrider.worker_session to postrider_api;
grant select, insert, update on postrider.lane_hint to postrider_api;

-- Daemon: the queue and what delivery needs; it does not make tenants or keys.
grant select, insert, update, delete on
  postrider.message, postrider.job, postrider.ready, postrider.lease, postrider.deferred, postrider.attempt,
  postrider.dead_letter, postrider.idempotency, postrider.upload_chunk, postrider.cancellation,
  postrider.suppression, postrider.lane, postrider.lane_hint, postrider.block, postrider.worker_session,
  postrider.generation, postrider.pool, postrider.domain_pool, postrider.cron_fire, postrider.stream, postrider.stream_policy to postrider_worker;
grant select, insert, delete, update, truncate on
  postrider.ready_g0, postrider.ready_g1, postrider.ready_g2, postrider.ready_g3,
  postrider.lease_g0, postrider.lease_g1, postrider.lease_g2, postrider.lease_g3 to postrider_worker;
grant select on postrider.tenant, postrider.sending_domain, postrider.dkim_key to postrider_worker;
grant execute on function postrider.ensure_partitions(int) to postrider_worker, postrider_operator;

-- Operator: everything but the schema itself.
grant select, insert, update, delete on all tables in schema postrider to postrider_operator;
grant usage on all sequences in schema postrider to postrider_worker, postrider_api, postrider_operator;

-- The key of a prefix with its tenant, in one statement: row-level security lets the
-- API see a key by its prefix, and the tenant once it is known.
create function postrider.authenticate(p_prefix text)
returns table(key_id bigint, tenant_id bigint, name text, hash bytea) language plpgsql as $$
#variable_conflict use_column
declare k postrider.api_key;
begin
  perform set_config('postrider.key_prefix', p_prefix, true);
  select * into k from postrider.api_key where prefix = p_prefix and revoked_at is null;
  if found then
    perform set_config('postrider.tenant', k.tenant_id::text, true);
    return query select k.key_id, t.tenant_id, t.name, k.hash
      from postrider.tenant t where t.tenant_id = k.tenant_id and t.state = 'active';
  end if;
end $$;

-- Gives back the space of an old generation. ACCESS EXCLUSIVE waits for every writer in
-- flight, then emptiness is checked with a fresh snapshot; a writer that read the old
-- generation and queues behind the lock lands its row in a table that is still live for
-- claimers, because the row is then found by the check of the next pass.
create function postrider.retire_generation(g smallint) returns boolean
language plpgsql set lock_timeout = '50ms' as $$
declare busy boolean;
begin
  if (select cur = g from postrider.generation) then return false; end if;
  execute format('lock table postrider.ready_g%1$s, postrider.lease_g%1$s in access exclusive mode', g);
  execute format('select exists (select 1 from postrider.ready_g%1$s) or exists (select 1 from postrider.lease_g%1$s)', g) into busy;
  if busy then return false; end if;
  execute format('truncate postrider.ready_g%1$s, postrider.lease_g%1$s', g);
  update postrider.generation set live = array_remove(live, g);
  return true;
exception when lock_not_available then return false;
end $$;

-- The oldest id that is still needed: by what waits, and by messages that may still get recipients.
create function postrider.oldest_needed() returns bigint language sql stable as $$
  select least((select min(job_id) from postrider.ready), (select min(job_id) from postrider.lease),
               (select min(job_id) from postrider.deferred), (select min(message_id) from postrider.dead_letter),
               (select message_id from postrider.message where expires_at > now() order by message_id limit 1))
$$;

-- Drops days of history that lie wholly before both the age and the id (the caller passes
-- oldest_needed(): the owner of this function may not see tenants' rows).
create function postrider.drop_partitions(before timestamptz, needed bigint) returns int
language plpgsql security definer set search_path = pg_catalog, postrider set timezone = 'UTC'
  set lock_timeout = '500ms' as $$
declare part record; day_end timestamptz; dropped int := 0;
begin
  for part in
    select c.relname, split_part(c.relname, '_', 1) as parent, to_date(split_part(c.relname, '_', 2), 'YYYYMMDD') as day
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('postrider.message'::regclass, 'postrider.job'::regclass, 'postrider.attempt'::regclass)
      and c.relname ~ '_[0-9]{8}$'
  loop
    day_end := (part.day + 1)::timestamptz;
    continue when day_end > before or (needed is not null and postrider.id_floor(day_end) > needed);
    begin
      execute format('drop table postrider.%I', part.relname);
      dropped := dropped + 1;
    exception when lock_not_available then null;  -- the next hour tries again
    end;
  end loop;
  return dropped;
end $$;
revoke all on function postrider.drop_partitions(timestamptz, bigint) from public;
grant execute on function postrider.drop_partitions(timestamptz, bigint) to postrider_worker;
