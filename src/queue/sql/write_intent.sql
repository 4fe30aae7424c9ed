-- Deliveries $3 (their holds $4) that session $1 is about to send, as its batch $2; batches $5
-- are settled and go. False: the session is fenced, so nothing was written and none may be sent.
-- The lock on the session's row keeps the fence and this from passing each other unseen: the
-- fence waits for the commit, and so the rescue behind it finds the intent. Written again after
-- an answer was lost, nothing changes.
with living as materialized (
  select session_id from postrider.worker_session where session_id = $1 and state in ('alive', 'draining') for share
), settled as (
  delete from postrider.intent where session_id = $1 and batch = any ($5)
), written as (
  insert into postrider.intent(session_id, batch, job_ids, holds)
  select session_id, $2, $3, $4 from living where cardinality($3) > 0
  on conflict do nothing
)
select exists (select 1 from living)
