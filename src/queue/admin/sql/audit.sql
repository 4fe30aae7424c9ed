-- Every message whose deliveries do not add up. $1 tenant or null  $2 message or null  $3 most rows
--
-- A delivery is in exactly one place: an end in attempt (kinds 1 to 5), dead_letter,
-- ready, lease or deferred (or in transit, counted as the place it comes from). So for each message
--   accepted = job rows = ended + dead + ready + leased + deferred
-- and no delivery is in two places, in none, or waits without its job row.
-- A tenant on the move is looked at where it lives; what is in transit waits.
with elsewhere as materialized (
  select tenant_id from postrider.tenant where residence in ('left', 'gone', 'arriving')
), place as (
  select job_id, 1 as ended, 0 as dead, 0 as ready, 0 as leased, 0 as deferred, message_id, tenant_id
  from postrider.attempt
  where kind between 1 and 5 and ($1::bigint is null or tenant_id = $1) and ($2::bigint is null or message_id = $2)
  union all
  select job_id, 0, 1, 0, 0, 0, message_id, tenant_id from postrider.dead_letter
  where ($1::bigint is null or tenant_id = $1) and ($2::bigint is null or message_id = $2)
  union all
  select job_id, 0, 0, 1, 0, 0, null, tenant_id from postrider.ready
  where ($1::bigint is null or tenant_id = $1)
    and ($2::bigint is null or job_id in (select j.job_id from postrider.job j where j.message_id = $2))
  union all
  select job_id, 0, 0, 0, 1, 0, null, tenant_id from postrider.lease
  where ($1::bigint is null or tenant_id = $1)
    and ($2::bigint is null or job_id in (select j.job_id from postrider.job j where j.message_id = $2))
  union all
  select job_id, 0, 0, 0, 0, 1, null, tenant_id from postrider.deferred
  where ($1::bigint is null or tenant_id = $1)
    and ($2::bigint is null or job_id in (select j.job_id from postrider.job j where j.message_id = $2))
  union all
  select job_id, 0, (place = 'dead')::int, (place = 'ready')::int, 0, (place = 'deferred')::int,
         (held ->> 'message_id')::bigint, tenant_id
  from postrider.transit
  where ($1::bigint is null or tenant_id = $1)
    and ($2::bigint is null or job_id in (select j.job_id from postrider.job j where j.message_id = $2)
      or (held ->> 'message_id')::bigint = $2)
), delivery as (
  select job_id, max(message_id) as message_id, max(tenant_id) as tenant_id,
         sum(ended)::int as ended, sum(dead)::int as dead, sum(ready)::int as ready,
         sum(leased)::int as leased, sum(deferred)::int as deferred
  from place group by job_id
), kept as (
  select job_id, message_id, tenant_id from postrider.job
  where ($1::bigint is null or tenant_id = $1) and ($2::bigint is null or message_id = $2)
), checked as (
  select coalesce(k.message_id, d.message_id) as message_id, coalesce(k.tenant_id, d.tenant_id) as tenant_id,
         coalesce(k.job_id, d.job_id) as job_id, k.job_id is not null as kept,
         coalesce(d.ended, 0) as ended, coalesce(d.dead, 0) as dead, coalesce(d.ready, 0) as ready,
         coalesce(d.leased, 0) as leased, coalesce(d.deferred, 0) as deferred
  from kept k full join delivery d using (job_id)
), sums as (
  select message_id, max(tenant_id) as tenant_id, count(*) filter (where kept) as jobs,
         sum(ended) as ended, sum(dead) as dead, sum(ready) as ready, sum(leased) as leased, sum(deferred) as deferred,
         count(*) filter (where ended > 1) as ended_twice,
         count(*) filter (where ended + dead + ready + leased + deferred > 1) as doubled,
         count(*) filter (where ended + dead + ready + leased + deferred = 0) as lost,
         -- A dead letter carries what it needs; the others cannot go on without their job row.
         count(*) filter (where not kept and ready + leased + deferred > 0) as homeless,
         min(job_id) filter (where ended + dead + ready + leased + deferred <> 1
           or not kept and ready + leased + deferred > 0) as example
  from checked group by message_id
), message as (
  select message_id, tenant_id, accepted from postrider.message
  where ($1::bigint is null or tenant_id = $1) and ($2::bigint is null or message_id = $2)
), judged as (
  select message_id, coalesce(m.tenant_id, s.tenant_id) as tenant_id, m.message_id is not null as known,
         coalesce(m.accepted, 0) as accepted, coalesce(jobs, 0) as jobs, coalesce(ended, 0) as ended,
         coalesce(dead, 0) as dead, coalesce(ready, 0) as ready, coalesce(leased, 0) as leased,
         coalesce(deferred, 0) as deferred, coalesce(ended_twice, 0) as ended_twice,
         coalesce(doubled, 0) as doubled, coalesce(lost, 0) as lost, coalesce(homeless, 0) as homeless, example
  from message m full join sums s using (message_id)
  where coalesce(m.tenant_id, s.tenant_id) is null
     or coalesce(m.tenant_id, s.tenant_id) not in (select tenant_id from elsewhere)
), offence as (
  select * from judged
  where doubled > 0 or homeless > 0
     or known and (accepted <> ended + dead + ready + leased + deferred or accepted <> jobs or lost > 0)
     -- History older than the oldest kept message is pruned, so nothing is asked of it but that nothing waits.
     or not known and (ready + leased + deferred > 0
       or lost > 0 and message_id >= (select min(message_id) from postrider.message))
)
select (select count(*) from judged where known)::bigint as messages,
       (select coalesce(sum(accepted), 0) from judged)::bigint as accepted,
       (select coalesce(sum(ended), 0) from judged where known)::bigint as ended,
       (select coalesce(sum(dead), 0) from judged where known)::bigint as dead,
       (select coalesce(sum(ready + leased + deferred), 0) from judged)::bigint as waiting,
       (select count(*) from offence)::bigint as offenders,
       (select coalesce(json_agg(json_build_object(
          'message', postrider.written_id('msg_', o.message_id), 'tenant', t.name,
          'accepted', o.accepted, 'jobs', o.jobs, 'ended', o.ended, 'dead', o.dead, 'ready', o.ready, 'leased', o.leased,
          'deferred', o.deferred, 'ended_twice', o.ended_twice, 'doubled', o.doubled, 'lost', o.lost,
          'homeless', o.homeless, 'known', o.known, 'example', postrider.written_id('dlv_', o.example))
          order by o.message_id), '[]')
        from (select * from offence order by message_id limit $3) o
        left join postrider.tenant t using (tenant_id))::text as detail
