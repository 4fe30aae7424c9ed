-- What a callback holds. $1 provider  $2 peer; arrays: $3 keys  $4 events as they came; $5 token or null
-- $6 until when it is remembered, in seconds since 1970. A token that is there stores nothing; of
-- two that come at once, the second waits for the first one's commit.
with token as (
  insert into postrider.callback_token(token, expires_at)
  select $5, to_timestamp($6) where $5::text is not null
  on conflict do nothing
  returning 1
), stored as (
  insert into postrider.inbound_report(purpose, sender, peer, raw, event_key)
  select 'callback', $1, $2, e.raw, e.key
  from unnest($3::text[], $4::bytea[]) as e(key, raw)
  where $5::text is null or exists (select 1 from token)
  on conflict do nothing
  returning 1
)
select (select count(*) from token) as tokens, (select count(*) from stored) as stored
