-- Cells: this whole schema in one database is one cell of possibly several. A tenant
-- lives in exactly one of them and can be moved (docs/sharding.md, docs/adr/0012).

-- ---------------------------------------------------------------- which cell this is
create table postrider.cell(
  one     boolean primary key default true check (one),
  number  smallint not null check (number between 0 and 63),
  name    text not null check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  in_use  boolean not null default false);     -- a tenant arrived from elsewhere: the number stays
insert into postrider.cell(number, name) values (0, 'main');
grant select on postrider.cell to postrider_worker, postrider_api, postrider_operator;
grant update (in_use) on postrider.cell to postrider_operator;

-- Ids are milliseconds since 2020 << 22 | cell << 16 | sequence. The sequence runs around within
-- the numbers of its cell, so minting an id reads no table and can still be inlined: 65536 ids
-- a millisecond. What was minted before keeps its id: it lies in earlier milliseconds.
alter sequence postrider.id_seq minvalue 0 maxvalue 65535 start with 0 restart with 0 cycle;
create or replace function postrider.mint_id() returns bigint
language sql volatile as
$$ select (((date_part('epoch', clock_timestamp()) - 1577836800) * 1000)::bigint << 22) | nextval('postrider.id_seq') $$;

-- Says which cell this database is, once: numbers that were given out carry it. Tenants and
-- API keys get the number in bits 40 to 45, so those of cell 0 go on as they were. The caller
-- owns the schema. (The owner may not see tenants' rows, so the sequences are asked.)
create function postrider.init_cell(p_number int, p_name text) returns void language plpgsql as $$
declare v_cell postrider.cell;
begin
  select * into v_cell from postrider.cell for update;
  update postrider.cell set name = p_name where name <> p_name;
  if v_cell.number = p_number then return; end if;
  if v_cell.in_use
     or pg_sequence_last_value('postrider.id_seq') is not null
     or pg_sequence_last_value('postrider.tenant_tenant_id_seq') is not null
     or pg_sequence_last_value('postrider.api_key_key_id_seq') is not null then
    raise exception 'this database is cell % and has given out ids under that number', v_cell.number
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Give it that number in the configuration, or make a new database.';
  end if;
  update postrider.cell set number = p_number;
  execute format('alter sequence postrider.id_seq minvalue %1$s maxvalue %2$s start with %1$s restart with %1$s',
    p_number << 16, (p_number << 16) + 65535);
  execute format('alter table postrider.tenant alter column tenant_id restart with %s', (p_number::bigint << 40) + 1);
  execute format('alter table postrider.api_key alter column key_id restart with %s', (p_number::bigint << 40) + 1);
end $$;
revoke all on function postrider.init_cell(int, text) from public;

-- ---------------------------------------------------------------- where a tenant lives
-- Used in the home cell only: which tenant lives where. A tenant that is not in it is
-- looked for in every cell; the name of a new one is reserved here first.
create table postrider.tenant_cell(
  name       text primary key,
  cell       smallint not null check (cell between 0 and 63),
  changed_at timestamptz not null default now());
grant select, insert, update, delete on postrider.tenant_cell to postrider_operator;

-- here: the ordinary case. leaving: on its way to cell bound_for, nothing new is accepted.
-- left: it lives there, its rows here are being removed. gone: they are. arriving: its rows
-- come in, none can be claimed. The step from leaving to left is the one that counts.
alter table postrider.tenant
  add column residence text not null default 'here'
    check (residence in ('here', 'leaving', 'left', 'gone', 'arriving')),
  add column bound_for smallint check (bound_for between 0 and 63);

-- Deliveries of a tenant on the move: taken out of ready, deferred and dead_letter, where
-- claims and maintenance would find them, as whole rows.
create table postrider.transit(
  tenant_id bigint not null,
  job_id    bigint not null,
  place     text not null check (place in ('ready', 'deferred', 'dead')),
  held      jsonb not null,
  primary key (tenant_id, job_id));
select postrider.protect('postrider.transit');
grant select, insert, update, delete on postrider.transit to postrider_operator;
grant select on postrider.transit to postrider_worker;

-- Evidence about deliveries in doubt goes with them.
grant insert on postrider.late_outcome to postrider_operator;

-- The oldest id that a tenant on the move needs (see oldest_needed).
create function postrider.oldest_in_transit() returns bigint language sql stable as $$
  select min(coalesce((held ->> 'message_id')::bigint, job_id)) from postrider.transit
$$;

-- Whatever a tenant (or an operator for it) would write while it moves would be lost. One
-- look at the tenant's row per statement; who acts for no tenant is not asked.
create function postrider.refuse_on_the_move() returns trigger language plpgsql as $$
declare v_residence text;
begin
  select t.residence into v_residence from postrider.tenant t where t.tenant_id = (select postrider.current_tenant());
  if v_residence in ('leaving', 'arriving') then
    raise exception 'the tenant is being moved to another cell' using errcode = 'PRMOV',
      hint = 'Nothing was stored. Try again in some seconds.';
  elsif v_residence in ('left', 'gone') then
    raise exception 'the tenant was moved to another cell' using errcode = 'PRGON',
      hint = 'Nothing was stored. Connect to the database of its new cell: postrider cell list';
  end if;
  return null;
end $$;
do $$
declare t text;
begin
  foreach t in array array['message', 'suppression', 'api_key', 'sending_domain', 'dkim_key', 'tenant_login',
                           'block', 'lane_cancellation'] loop
    execute format('create trigger refuse_on_the_move before insert or update or delete on postrider.%I
      for each statement execute function postrider.refuse_on_the_move()', t);
  end loop;
end $$;

-- As before, and only where the tenant lives (it may still look things up while it leaves).
-- Between two cells the key is neither right nor wrong: an error says so.
create or replace function postrider.authenticate(p_prefix text)
returns table(key_id bigint, tenant_id bigint, name text, hash bytea) language plpgsql as $$
#variable_conflict use_column
declare k postrider.api_key; v_residence text;
begin
  perform set_config('postrider.key_prefix', p_prefix, true);
  select * into k from postrider.api_key where prefix = p_prefix and revoked_at is null;
  if found then
    perform set_config('postrider.tenant', k.tenant_id::text, true);
    select t.residence into v_residence from postrider.tenant t where t.tenant_id = k.tenant_id and t.state = 'active';
    if v_residence = 'arriving' then
      raise exception 'the tenant is being moved to another cell' using errcode = 'PRMOV';
    elsif v_residence in ('left', 'gone') then
      raise exception 'the tenant was moved to another cell' using errcode = 'PRGON';
    end if;
    return query select k.key_id, t.tenant_id, t.name, k.hash
      from postrider.tenant t
      where t.tenant_id = k.tenant_id and t.state = 'active' and t.residence in ('here', 'leaving');
  end if;
end $$;

-- Days of the past, for history that comes from another cell; the same rules as for the days to come.
create function postrider.ensure_past_partitions(since timestamptz) returns int
language plpgsql security definer set search_path = pg_catalog, postrider set timezone = 'UTC'
  set lock_timeout = '500ms' as $$
declare d date; made int := 0; name text; parent text;
begin
  for d in select generate_series(greatest(since, now() - interval '400 days')::date, current_date, interval '1 day')::date loop
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
revoke all on function postrider.ensure_past_partitions(timestamptz) from public;
grant execute on function postrider.ensure_past_partitions(timestamptz) to postrider_operator;
