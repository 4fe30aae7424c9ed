-- $1 session, $2 time to live in seconds. No row: this session is fenced.
-- Also says how many sessions live and which of them we are (by number), for shares of limits.
with beat as (
  update postrider.worker_session set beat_at = now()
  where session_id = $1 and state <> 'fenced' returning session_id
), living as (
  select session_id from postrider.worker_session
  where state = 'alive' and (session_id = $1 or beat_at > now() - make_interval(secs => $2))
)
select (select count(*) from living) as living,
       (select count(*) from living where session_id < $1) as rank
from beat
