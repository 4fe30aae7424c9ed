-- Arrays: $1 tenant  $2 stream  $3 reason  $4 detail of the event (JSON). Holds streams back until an
-- operator lets them go. What somebody holds back already stays his. Gives back what was held back.
with found as (
  select f.*, s.stream_id
  from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as f(tenant_id, stream, reason, detail)
  join postrider.tenant t using (tenant_id)
  join postrider.stream s on s.tenant_id = f.tenant_id and s.name = f.stream
  where t.residence = 'here'
), held as (
  insert into postrider.block as b(scope, key, until, reason, holder, actor)
  select 'TS', concat_ws('/', tenant_id, stream_id), now() + interval '100 years', reason, 'health', 'health' from found
  on conflict (scope, key) do update
  set until = excluded.until, reason = excluded.reason, holder = excluded.holder, actor = excluded.actor, since = now()
  where b.until <= now()
  returning b.key
), stopped as (
  insert into postrider.health_stream as h(tenant_id, stream, level, reason)
  select tenant_id, stream, 'stopped', reason from found
  where concat_ws('/', tenant_id, stream_id) in (select key from held)
  on conflict (tenant_id, stream) do update set level = 'stopped', since = now(), reason = excluded.reason
  returning h.tenant_id, h.stream
), told as (
  insert into postrider.event(tenant_id, xid, kind, detail)
  select s.tenant_id, pg_current_xact_id()::text::bigint, 15, f.detail::json
  from stopped s join found f using (tenant_id, stream) join postrider.event_tenant e using (tenant_id)
  where e.enabled
)
select tenant_id, stream from stopped
