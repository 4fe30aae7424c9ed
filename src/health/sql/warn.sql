-- Arrays: $1 tenant  $2 stream  $3 reason  $4 detail of the event (JSON). Whoever is warned or
-- stopped already is not told again. Gives back who was.
with found as (
  select f.* from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as f(tenant_id, stream, reason, detail)
  join postrider.tenant t using (tenant_id)
  where t.residence = 'here'
), warned as (
  insert into postrider.health_stream as h(tenant_id, stream, level, reason)
  select tenant_id, stream, 'warned', reason from found
  on conflict (tenant_id, stream) do update set level = 'warned', since = now(), reason = excluded.reason
  where h.level = 'well'
  returning h.tenant_id, h.stream
), told as (
  insert into postrider.event(tenant_id, xid, kind, detail)
  select w.tenant_id, pg_current_xact_id()::text::bigint, 14, f.detail::json
  from warned w join found f using (tenant_id, stream) join postrider.event_tenant e using (tenant_id)
  where e.enabled
)
select tenant_id, stream from warned
