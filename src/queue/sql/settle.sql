-- Ends holds on leases of one generation. $1 session; arrays: $2 job, $3 hold, $4 kind,
-- $5 message, $6 code, $7 delay in ms, $8 detail (JSON), $9 in doubt (null: as earlier
-- attempts left it; false: what was in doubt is learned, and no attempt was made), $10 condemned
-- address, $11 reason of a dead letter, $12 id that a provider gave the mail, $13 how the list
-- names the recipient, $14 class of a failure that counts towards a suppression.
-- kind: the attempt kinds (1 delivered 2 bounced 3 expired 4 suppressed 5 cancelled
-- 6 dead 7 deferred 8 interrupted), and 9 released: uncounted, no history.
-- Deleting the lease IS the permission to decide; ids not returned were fenced.
with d as materialized (
  select *
  from unnest($2::bigint[], $3::int[], $4::smallint[], $5::bigint[], $6::smallint[], $7::bigint[],
              $8::text[], $9::boolean[], $10::boolean[], $11::text[], $12::text[], $13::text[], $14::text[])
    as d(job_id, hold, kind, message_id, code, delay_ms, detail, in_doubt, condemned, reason, provider_id, listed, soft)
), found as materialized (
  -- One look into the index for each, whatever the planner thinks of the leases' number: with
  -- statistics of a quiet minute a join compared each outcome with each lease.
  select d.*, l.tid, l.lane_id, l.tenant_id, l.expires_at, l.attempt, l.suspect
  from d cross join lateral (
    select l.ctid as tid, l.lane_id, l.tenant_id, l.expires_at, l.attempt, l.suspect
    from postrider.lease_g{g} l
    where l.session_id = $1 and l.job_id = d.job_id and l.hold = d.hold
    limit 1) l
), gone as (
  delete from postrider.lease_g{g} l
  where l.ctid = any (array(select tid from found))
  returning l.job_id
), freed as materialized (
  -- "is true" keeps this a table of hashes, for the same reason.
  select job_id, lane_id, tenant_id, expires_at, attempt, hold, suspect, kind, message_id,
         code, detail, in_doubt, condemned, reason, provider_id, listed, soft,
         least(now() + make_interval(secs => delay_ms / 1000.0), greatest(expires_at, now())) as due_at,
         delay_ms
  from found where (job_id in (select job_id from gone)) is true
), history as (
  insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, in_doubt, code, next_at, detail, provider_id)
  select tenant_id, message_id, job_id, case when kind in (3, 4, 5) or not in_doubt then attempt - 1 else attempt end, kind,
         coalesce(in_doubt, kind in (1, 8) and suspect), code, case when kind in (7, 8) then due_at end, detail::json, provider_id
  from freed where kind <> 9
), again as (
  insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at, attempt, hold, suspect)
  select due_at, job_id, lane_id, tenant_id, expires_at, case when kind = 9 then attempt - 1 else attempt end, hold,
         suspect or coalesce(in_doubt, false)
  from freed where kind in (7, 8) or (kind = 9 and delay_ms > 0)
), back as (
  insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at, attempt, hold, suspect)
  select (select cur from postrider.generation), lane_id, now(), job_id, tenant_id, expires_at, attempt - 1, hold, suspect
  from freed where kind = 9 and delay_ms = 0
  returning lane_id
), hints as (
  update postrider.lane_hint set hinted_at = clock_timestamp()
  where lane_id in (
    select h.lane_id from postrider.lane_hint h where h.lane_id in (select lane_id from back)
    order by 1 for update skip locked)
), dead as (
  insert into postrider.dead_letter(tenant_id, job_id, message_id, lane_id, attempts, hold, reason, detail, recipient, payload)
  select f.tenant_id, f.job_id, f.message_id, f.lane_id, f.attempt, f.hold, f.reason, f.detail, j.recipient, j.payload
  from freed f join postrider.job j using (job_id) where f.kind = 6
), tallied as (
  -- For the health of the tenant (migration 0021): one row a lane, only inserted.
  insert into postrider.health_tally(lane_id, sent, bounced, refused)
  select lane_id, count(*), count(*) filter (where lost), count(*) filter (where kind = 2 and not lost)
  from (select lane_id, kind, kind = 2 and coalesce(detail::json ->> 'class' in ('address_bad', 'domain_bad'), false) as lost
        from freed where kind in (1, 2)) e
  group by lane_id
), condemned as (
  insert into postrider.suppression(tenant_id, address, reason, source, job_id)
  select distinct on (tenant_id, listed) tenant_id, listed, 'address_bad', 'reply', job_id
  from freed where condemned order by tenant_id, listed
  on conflict (tenant_id, address, stream) do update
  set reason = excluded.reason, source = excluded.source, created_at = now(), expires_at = null, job_id = excluded.job_id
  where suppression.expires_at is not null
), taken as (
  -- A mailbox that takes mail is not full any more; what reports said is not undone by that.
  delete from postrider.soft_bounce b
  where not b.by_report and (b.tenant_id, b.address) in (select tenant_id, listed from freed where kind = 1)
)
select job_id, case when soft is not null then postrider.soft_failure(tenant_id, listed, job_id, soft, false) end
from (select * from freed order by tenant_id, listed) f
