-- $1 most rows. Empties the tally into the buckets. The streams it was of, those that are warned,
-- and with each how many rows were taken. Whose tenant moved away meanwhile is not counted.
with taken as (
  delete from postrider.health_tally
  where ctid = any (array(select t.ctid from postrider.health_tally t limit $1 for update skip locked))
  returning lane_id, at, sent, bounced, refused, complained
), summed as (
  select l.tenant_id, s.name as stream, p.name as mailbox_provider, g.minutes,
         date_trunc(case g.minutes when 60 then 'hour' else 'minute' end, t.at, 'UTC') as at,
         sum(t.sent) as sent, sum(t.bounced) as bounced, sum(t.refused) as refused, sum(t.complained) as complained
  from taken t
  join postrider.lane l using (lane_id)
  join postrider.stream s using (stream_id)
  join postrider.pool p using (pool_id)
  join postrider.tenant o on o.tenant_id = l.tenant_id and o.residence in ('here', 'leaving')
  cross join lateral (select case when t.at < date_trunc('hour', now(), 'UTC') - interval '2 hours'
                                  then 60 else 1 end as minutes) g
  group by 1, 2, 3, 4, 5
), put as (
  insert into postrider.health_bucket as b
    (tenant_id, stream, mailbox_provider, minutes, at, sent, bounced, refused, complained)
  select tenant_id, stream, mailbox_provider, minutes, at, sent, bounced, refused, complained from summed
  order by 1, 2, 3, 4, 5
  on conflict (tenant_id, stream, minutes, at, mailbox_provider) do update
  set sent = b.sent + excluded.sent, bounced = b.bounced + excluded.bounced,
      refused = b.refused + excluded.refused, complained = b.complained + excluded.complained
)
select count.taken, x.tenant_id, x.stream
from (select count(*) as taken from taken) count
left join (
  select tenant_id, stream from summed
  union
  select tenant_id, stream from postrider.health_stream where level = 'warned') x on true
