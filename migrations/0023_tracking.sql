-- Opens and clicks (docs/tracking.md, docs/adr/0035-tracking.md).

-- The host that links of this domain's mail lead over: the domain itself or below it, so that a
-- tenant can only ever use its own name.
alter table postrider.sending_domain add column tracking_host text
  check (tracking_host ~ '^[a-z0-9]([a-z0-9.-]{0,251})[a-z0-9]$'
         and (tracking_host = domain or right(tracking_host, length(domain) + 1) = '.' || domain));

-- What was told already: of each delivery at most one open in an hour, and one click of each link.
-- link: 0 is the picture, else a hash of the address. Kept for a day; a move leaves it behind.
create table postrider.tracked(
  tenant_id bigint not null,
  job_id    bigint not null,
  hour      timestamptz not null,
  link      bigint not null,
  primary key (job_id, hour, link));
create index tracked_hour on postrider.tracked(hour);
select postrider.protect('postrider.tracked'), postrider.keep_small('postrider.tracked', 'queue');

-- A mail was opened (p_url null) or a link in it followed: an event for its tenant, if it listens.
-- Whoever calls has verified a link that this installation signed for this delivery; from here on
-- the transaction acts for its tenant. p_clicks: most clicks that are told of a delivery in a day.
-- What came of it: told, repeated, too_many, unheard (its tenant does not listen), moving (to
-- another cell), or unknown: the delivery is no longer kept, or is elsewhere.
-- Kinds of events: 12 opened, 13 clicked.
create function postrider.track(p_job bigint, p_url text, p_agent text, p_machine boolean, p_clicks int)
returns text language plpgsql as $$
declare v_tenant bigint; v_message bigint; v_residence text;
begin
  perform set_config('postrider.delivery', p_job::text, true);
  select j.tenant_id, j.message_id into v_tenant, v_message from postrider.job j where j.job_id = p_job;
  if v_tenant is null then return 'unknown'; end if;
  perform set_config('postrider.tenant', v_tenant::text, true);
  select t.residence into v_residence from postrider.tenant t where t.tenant_id = v_tenant;
  if v_residence in ('leaving', 'arriving') then return 'moving'; end if;
  if v_residence is distinct from 'here' then return 'unknown'; end if;
  if not exists (select 1 from postrider.event_tenant e where e.tenant_id = v_tenant and e.enabled) then
    return 'unheard';
  end if;
  if p_url is not null and (
    select count(*) from (
      select 1 from postrider.tracked d
      where d.job_id = p_job and d.hour > now() - interval '1 day' and d.link <> 0 limit p_clicks) told) >= p_clicks then
    return 'too_many';
  end if;
  insert into postrider.tracked(tenant_id, job_id, hour, link)
  values (v_tenant, p_job, date_trunc('hour', now()), coalesce(hashtextextended(p_url, 0), 0))
  on conflict do nothing;
  if not found then return 'repeated'; end if;
  insert into postrider.event(tenant_id, xid, kind, message_id, job_id, detail)
  values (v_tenant, pg_current_xact_id()::text::bigint, case when p_url is null then 12 else 13 end, v_message, p_job,
          json_strip_nulls(json_build_object('url', p_url, 'user_agent', p_agent, 'machine', p_machine)));
  return 'told';
end $$;

-- Forgets what was told more than a day ago; at most p_rows, and how many.
create function postrider.forget_tracked(p_rows int) returns bigint language sql as $$
  with gone as (
    delete from postrider.tracked
    where ctid = any (array(
      select ctid from postrider.tracked where hour < now() - interval '25 hours' order by hour limit p_rows))
    returning 1
  )
  select count(*) from gone
$$;

grant select, insert on postrider.tracked to postrider_api;
grant select, delete on postrider.tracked to postrider_worker, postrider_operator;
