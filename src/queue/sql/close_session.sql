-- A session that holds nothing is forgotten; one that holds something is left to the rescue at once.
with held as (select exists (select 1 from postrider.lease where session_id = $1) as held),
gone as (
  delete from postrider.worker_session where session_id = $1 and not (select h.held from held h)
)
update postrider.worker_session set state = 'fenced'
where session_id = $1 and (select h.held from held h)
