-- Tenant health: how the mail of a tenant's streams is received (docs/health.md, docs/adr/0032).

-- ---------------------------------------------------------------- what is counted
-- What one statement that ended deliveries, or wrote evidence, has to add: one row for each
-- lane in it. Only ever inserted, so that those who settle never wait for each other; the
-- maintenance empties it into the buckets every ten seconds.
create table postrider.health_tally(
  lane_id    int not null,
  at         timestamptz not null default now(),   -- when the mails were sent
  sent       int not null default 0,               -- taken by a receiver, or refused for good
  bounced    int not null default 0,               -- recipients that are lost: at once or by a report
  refused    int not null default 0,               -- refused for good for another reason
  complained int not null default 0);
select postrider.keep_small('postrider.health_tally', 'queue');

-- Sums by the minute of sending, and by the hour when that lies back some hours. What comes
-- back later is counted with the mail that it is about, so no rate exceeds the whole.
create table postrider.health_bucket(
  tenant_id        bigint not null,
  stream           text not null,
  mailbox_provider text not null,
  minutes          smallint not null check (minutes in (1, 60)),
  at               timestamptz not null,
  sent             bigint not null,
  bounced          bigint not null,
  refused          bigint not null,
  complained       bigint not null,
  primary key (tenant_id, stream, minutes, at, mailbox_provider)) with (fillfactor = 70);
create index health_bucket_old on postrider.health_bucket(minutes, at);
select postrider.keep_small('postrider.health_bucket', 'queue');

-- How a stream stands; without a row: well.
create table postrider.health_stream(
  tenant_id    bigint not null,
  stream       text not null,
  level        text not null check (level in ('well', 'warned', 'stopped')),
  since        timestamptz not null default now(),
  reason       text,
  -- Figures from before do not count: an operator let the stream go then.
  counted_from timestamptz,
  primary key (tenant_id, stream));

select postrider.protect('postrider.health_bucket'), postrider.protect('postrider.health_stream');

-- ---------------------------------------------------------------- what comes back
-- Every path that writes evidence of a report or a callback (kind 9) passes here. Counted is what
-- is proven to be about the delivery and names its recipient, or nobody; once for each delivery
-- as a bounce and once as a complaint, and no bounce for what was refused at once.
create function postrider.tally_reports() returns trigger language plpgsql as $$
begin
  if not exists (select 1 from fresh where kind = 9) then return null; end if;
  insert into postrider.health_tally(lane_id, at, bounced, refused, complained)
  select x.lane_id, x.at, count(*) filter (where x.bounced), count(*) filter (where x.refused),
         count(*) filter (where x.complained)
  from (
    select s.lane_id, date_trunc('minute', coalesce(e.taken_at, now())) as at,
           s.failures > 0 and s.lost and e.failures = s.failures and not e.bounced as bounced,
           s.failures > 0 and not s.lost and e.failures = s.failures and not e.bounced as refused,
           s.complaints > 0 and e.complaints = s.complaints as complained
    from (
      select f.message_id, f.job_id, j.lane_id, lower(j.recipient) as recipient,
             count(*) filter (where f.detail ->> 'action' = 'failed') as failures,
             bool_or(f.detail ->> 'action' = 'failed' and f.detail ->> 'hardness' = 'hard') as lost,
             count(*) filter (where f.detail ->> 'class' = 'complaint') as complaints
      from fresh f
      join postrider.job j using (job_id)
      join postrider.tenant t on t.tenant_id = f.tenant_id
      where f.kind = 9 and t.residence <> 'arriving' and (f.detail ->> 'proven')::boolean
        and (f.detail ->> 'recipient' is null
             or lower(j.recipient) in (f.detail ->> 'recipient', f.detail ->> 'original'))
      group by f.message_id, f.job_id, j.lane_id, j.recipient) s
    cross join lateral (
      select max(a.at) filter (where a.kind = 1) as taken_at,
             coalesce(bool_or(a.kind = 2), false) as bounced,
             count(*) filter (where a.kind = 9 and a.told and a.detail ->> 'action' = 'failed') as failures,
             count(*) filter (where a.kind = 9 and a.told and a.detail ->> 'class' = 'complaint') as complaints
      from (
        select a.at, a.kind, a.detail,
               a.kind = 9 and coalesce((a.detail ->> 'proven')::boolean, false)
               and (a.detail ->> 'recipient' is null
                    or coalesce(s.recipient in (a.detail ->> 'recipient', a.detail ->> 'original'), false)) as told
        from postrider.attempt a
        where a.message_id = s.message_id and a.job_id = s.job_id and a.kind = any ('{1,2,9}'::smallint[])
          -- Nothing of it can be older than itself: older days need not be looked at.
          and a.at >= to_timestamp(1577836800 + (s.job_id >> 22) / 1000.0) - interval '1 day') a) e) x
  where x.bounced or x.refused or x.complained
  group by x.lane_id, x.at;
  return null;
end $$;
create trigger tally after insert on postrider.attempt
  referencing new table as fresh for each statement execute function postrider.tally_reports();

-- ---------------------------------------------------------------- held back, and let go
alter table postrider.block drop constraint block_holder_check;
alter table postrider.block add constraint block_holder_check check (holder in ('operator', 'tenant', 'health'));

-- Kinds of events: 14 a stream is near its limit, 15 it was held back, 16 it was let go.
alter table postrider.event drop constraint event_kind_check;
alter table postrider.event add constraint event_kind_check check (kind between 1 and 20) not valid;

-- Whoever ends what health holds back, or makes it his own, begins the count anew.
create function postrider.note_let_go() returns trigger language plpgsql as $$
begin
  with anew as (
    update postrider.health_stream h
    set level = 'well', since = now(), reason = null, counted_from = now()
    from postrider.stream s join postrider.tenant t using (tenant_id)
    where s.stream_id::text = split_part(old.key, '/', 2) and s.tenant_id = old.tenant_id and t.residence in ('here', 'leaving')
      and h.tenant_id = s.tenant_id and h.stream = s.name
    returning h.tenant_id, h.stream
  )
  insert into postrider.event(tenant_id, xid, kind, detail)
  select a.tenant_id, pg_current_xact_id()::text::bigint, 16, json_build_object('stream', a.stream)
  from anew a join postrider.event_tenant e using (tenant_id)
  where e.enabled and tg_op = 'DELETE';
  return null;
end $$;
create trigger let_go after delete on postrider.block
  for each row when (old.holder = 'health') execute function postrider.note_let_go();
create trigger taken_over after update on postrider.block
  for each row when (old.holder = 'health' and new.holder <> 'health') execute function postrider.note_let_go();

-- ---------------------------------------------------------------- rights
grant insert on postrider.health_tally to postrider_api, postrider_operator;
grant select, insert, update, delete on postrider.health_tally to postrider_worker;
grant select, insert, update, delete on postrider.health_bucket, postrider.health_stream to postrider_worker;
grant select, insert, update, delete on postrider.health_bucket, postrider.health_stream to postrider_operator;
grant select on postrider.health_bucket, postrider.health_stream to postrider_api;

-- ---------------------------------------------------------------- reports by the thousand
-- A report is written, lent and done within a second: room for that in its page, and the mail, which
-- is read once, is not squeezed for it.
alter table postrider.inbound_report set (fillfactor = 60);
alter table postrider.inbound_report alter column raw set storage external;
