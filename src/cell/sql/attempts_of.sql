-- The whole history of a few messages ($1).
select row_to_json(a)::text from postrider.attempt a where message_id = any ($1)
