-- All deliveries of a few messages ($1).
select row_to_json(j)::text from postrider.job j where message_id = any ($1)
