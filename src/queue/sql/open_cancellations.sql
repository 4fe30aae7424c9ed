select message_id from postrider.cancellation where done_at is null order by message_id limit 100
