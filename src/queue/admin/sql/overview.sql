-- Where deliveries wait, by lane. $1 most rows counted per lane (ready, scheduled) and in all (the others)  $2 tenant or null
-- Bounded on purpose: counting millions of rows would cost more than the answer is worth.
with leased as (
  select lane_id, count(*) as n from (select lane_id from postrider.lease limit $1) x group by lane_id
), deferred as (
  select lane_id, count(*) as n, min(due_at) as next_due
  from (select lane_id, due_at from postrider.deferred order by due_at limit $1) x group by lane_id
), dead as (
  select lane_id, count(*) as n from (select lane_id from postrider.dead_letter limit $1) x group by lane_id
)
select l.lane_id as lane, t.name as tenant, p.name as mailbox_provider, s.name as stream, l.prio as priority,
       r.n as ready, r.n >= $1 as more_ready, later.n as scheduled,
       extract(epoch from now() - r.oldest)::float8 as oldest_seconds,
       coalesce(leased.n, 0) as leased, coalesce(deferred.n, 0) as deferred,
       extract(epoch from least(greatest(deferred.next_due, case when deferred.n > 0 then now() end), later.next) - now())::float8 as next_due_seconds,
       coalesce(dead.n, 0) as dead_letters,
       (select string_agg(b.reason, '; ' order by b.scope) from postrider.block b
        where b.until > now() and (b.scope, b.key) in
          (('T', l.tenant_id::text), ('P', l.pool_id::text), ('L', l.lane_id::text),
           ('TS', concat_ws('/', l.tenant_id, l.stream_id)), ('TP', concat_ws('/', l.tenant_id, l.pool_id)),
           ('TSP', concat_ws('/', l.tenant_id, l.stream_id, l.pool_id)))) as held_back,
       -- As living daemons say; a pause is told above.
       (select string_agg(distinct w.reason || coalesce(' (' || w.limit_key || coalesce(', ' || w.limit_text, '') || ')', ''), '; ')
        from postrider.lane_wait w join postrider.worker_session ws using (session_id)
        where w.lane_id = l.lane_id and w.reason <> 'paused' and r.n > 0
          and ws.state <> 'fenced' and ws.beat_at > now() - interval '1 minute') as waits_for
from postrider.lane l
join postrider.tenant t using (tenant_id)
join postrider.pool p using (pool_id)
join postrider.stream s using (stream_id)
cross join lateral (
  select count(*) as n, min(run_at) as oldest
  from (select run_at from postrider.ready where ready.lane_id = l.lane_id and run_at <= now() order by run_at limit $1) x) r
cross join lateral (
  select count(*) as n, min(run_at) as next
  from (select run_at from postrider.ready where ready.lane_id = l.lane_id and run_at > now() order by run_at limit $1) x) later
left join leased using (lane_id)
left join deferred using (lane_id)
left join dead using (lane_id)
where ($2::bigint is null or l.tenant_id = $2)
  and (r.n > 0 or later.n > 0 or leased.n > 0 or deferred.n > 0 or dead.n > 0)
order by 2, 3, 4, 5
