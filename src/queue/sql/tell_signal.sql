-- What session $1 tells of itself ($2 to $8), and what changed of the lanes that wait:
-- $9 all others of this session are gone, $10 lanes that are gone, $11 to $19 those that wait.
-- Gives whether the session's row is new; no row: the session is fenced.
with alive as materialized (
  select session_id from postrider.worker_session where session_id = $1 and state <> 'fenced'
), me as (
  insert into postrider.worker_signal as w(session_id, ended, ended_bulk, rate, rate_bulk, in_hand, slots, capacity)
  select session_id, $2, $3, $4, $5, $6, $7, $8 from alive
  on conflict (session_id) do update set told_at = clock_timestamp(), ended = excluded.ended,
    ended_bulk = excluded.ended_bulk, rate = excluded.rate, rate_bulk = excluded.rate_bulk,
    in_hand = excluded.in_hand, slots = excluded.slots, capacity = excluded.capacity
  returning w.xmax = 0 as fresh
), gone as (
  delete from postrider.lane_wait
  where session_id = $1 and (lane_id = any ($10::int[]) or ($9 and not lane_id = any ($11::int[])))
), waits as (
  insert into postrider.lane_wait(session_id, lane_id, tenant_id, reason, limit_key, limit_text, limit_rate, lane_rate, since, until)
  select alive.session_id, w.lane_id, w.tenant_id, w.reason, w.limit_key, w.limit_text, w.limit_rate, w.lane_rate,
         now() - make_interval(secs => w.waited), now() + make_interval(secs => w.left_secs)
  from alive, unnest($11::int[], $12::bigint[], $13::text[], $14::text[], $15::text[], $16::float8[], $17::float8[], $18::float8[], $19::float8[])
    as w(lane_id, tenant_id, reason, limit_key, limit_text, limit_rate, lane_rate, waited, left_secs)
  on conflict (session_id, lane_id) do update set reason = excluded.reason, limit_key = excluded.limit_key,
    limit_text = excluded.limit_text, limit_rate = excluded.limit_rate, lane_rate = excluded.lane_rate,
    since = excluded.since, until = excluded.until
)
select fresh from me
