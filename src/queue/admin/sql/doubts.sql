-- Deliveries that are or were in doubt, with the evidence of their latest doubtful attempt.
-- $1 tenant or null  $2 stream or null  $3 after this delivery  $4 most  $5 held ones only
-- Walks the index over attempts in doubt, which are few, in the order of the deliveries.
with doubtful as (
  select a.job_id, max(a.at) as at
  from postrider.attempt a
  where a.in_doubt and a.kind in (6, 7, 8) and a.job_id > $3 and ($1::bigint is null or a.tenant_id = $1)
    and ($2::text is null or exists (
      select 1 from postrider.message m join postrider.stream s using (stream_id)
      where m.message_id = a.message_id and s.name = $2))
    and (not $5 or exists (select 1 from postrider.dead_letter d where d.tenant_id = a.tenant_id and d.job_id = a.job_id))
  group by a.job_id
  order by a.job_id
  limit $4
)
select a.job_id, a.message_id, t.name as tenant, s.name as stream, coalesce(j.recipient, d.recipient) as recipient,
       a.at, a.attempt, a.detail::text as evidence, late.kind as late_kind, late.at as late_at, late.detail::text as late_evidence,
       case
         when h.kind is not null then (array['delivered', 'bounced', 'expired', 'suppressed', 'cancelled'])[h.kind]
         when d.job_id is not null then 'held'
         when f.job_id is not null then 'waiting'
         else 'sending'
       end as state
from doubtful x
join postrider.attempt a on a.job_id = x.job_id and a.at = x.at and a.in_doubt and a.kind in (6, 7, 8)
join postrider.tenant t on t.tenant_id = a.tenant_id
left join postrider.message m on m.message_id = a.message_id
left join postrider.stream s on s.stream_id = m.stream_id
left join postrider.job j on j.job_id = a.job_id
left join postrider.dead_letter d on d.tenant_id = a.tenant_id and d.job_id = a.job_id
left join postrider.deferred f on f.job_id = a.job_id
left join lateral (
  -- An end has a kind below 6; a delivery has one at most.
  select e.kind from postrider.attempt e
  where e.message_id = a.message_id and e.kind in (1, 2, 3, 4, 5) and e.job_id = a.job_id limit 1) h on true
left join lateral (
  select o.kind, o.at, o.detail from postrider.late_outcome o where o.job_id = a.job_id order by o.kind, o.hold desc limit 1) late on true
order by a.job_id
