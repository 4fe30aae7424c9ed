-- $1 scope  $2 key  $3 holder; the lanes concerned: $4 tenant or null  $5 stream or null
-- $6 pool or null  $7 lane or null. A tenant ends what it began; an operator ends both.
-- Hints make the claimers look at the freed lanes at once.
with gone as (
  delete from postrider.block b
  where b.scope = $1 and b.key = $2 and (b.reason <> 'suspended' or b.scope <> 'T')
    and ($3 = 'operator' or b.holder = 'tenant')
  returning b.until
), hinted as (
  update postrider.lane_hint set hinted_at = clock_timestamp()
  where lane_id in (
    select h.lane_id from postrider.lane_hint h
    join postrider.lane l using (lane_id)
    where exists (select 1 from gone)
      and ($4::bigint is null or l.tenant_id = $4) and ($5::int is null or l.stream_id = $5)
      and ($6::smallint is null or l.pool_id = $6) and ($7::int is null or l.lane_id = $7)
    order by 1 for update of h skip locked)
)
select exists (select 1 from gone where until > now()),
       (select b.holder || ' ' || b.reason from postrider.block b
        where b.scope = $1 and b.key = $2 and b.until > now()
          and ((b.scope = 'T' and b.reason = 'suspended') or ($3 = 'tenant' and b.holder <> 'tenant')))
