-- $1 most
delete from postrider.callback_token where token in (
  select token from postrider.callback_token
  where expires_at < now() order by expires_at limit $1 for update skip locked)
