-- What sessions told that are fenced or forgotten.
with dead as materialized (
  select w.session_id from postrider.worker_signal w
  where not exists (select 1 from postrider.worker_session s where s.session_id = w.session_id and s.state <> 'fenced')
), waits as (
  delete from postrider.lane_wait where session_id in (select session_id from dead)
)
delete from postrider.worker_signal where session_id in (select session_id from dead)
