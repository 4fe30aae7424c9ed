-- The messages $1 and what is left of their history.
with history as (
  delete from postrider.attempt where message_id = any ($1)
)
delete from postrider.message where message_id = any ($1)
